//! SHA-1 of several streams with the SHA1 instructions of 64-bit ARM processors, for the reason given in `sha_ni`.

use std::arch::aarch64::{
    vaddq_u32, vgetq_lane_u32, vsha1cq_u32, vsha1h_u32, vsha1mq_u32, vsha1pq_u32, vsha1su0q_u32, vsha1su1q_u32,
};

use super::neon::{Vector, from_bytes, from_words, splat, to_words};

/// Four steps of each stream: number `$group` of the 20 groups.
macro_rules! four_steps {
    (($sums:ident $e:ident $w:ident) $constant:literal $instruction:ident: $($group:literal)*) => {$(
        for lane in 0..LANES {
            let w = &mut $w[lane];
            let next_e = vsha1h_u32(vgetq_lane_u32::<0>($sums[lane]));
            $sums[lane] = $instruction($sums[lane], $e[lane], vaddq_u32(w[$group & 3], splat($constant)));
            $e[lane] = next_e;
            if $group < 16 {
                let mixed = vsha1su0q_u32(w[$group & 3], w[($group + 1) & 3], w[($group + 2) & 3]);
                w[$group & 3] = vsha1su1q_u32(mixed, w[($group + 3) & 3]);
            }
        }
    )*};
}

/// Hashes the blocks of `LANES` streams into their states. All have the same number of blocks.
#[target_feature(enable = "neon,sha2")]
pub(super) fn compress<const LANES: usize>(states: &mut [[u32; 5]; LANES], blocks: [&[[u8; 64]]; LANES]) {
    let count = blocks.iter().map(|blocks| blocks.len()).min().unwrap_or(0);
    let mut sums: [Vector; LANES] = std::array::from_fn(|lane| {
        let [a, b, c, d, _] = states[lane];
        from_words([a, b, c, d])
    });
    let mut e = states.map(|state| state[4]);
    #[allow(clippy::needless_range_loop)] // `number` is for all streams.
    for number in 0..count {
        let (old_sums, old_e) = (sums, e);
        let mut w: [[Vector; 4]; LANES] = std::array::from_fn(|lane| {
            let parts = blocks[lane][number].as_chunks::<16>().0;
            std::array::from_fn(|part| from_bytes(&parts[part]))
        });
        four_steps!((sums e w) 0x5a82_7999 vsha1cq_u32: 0 1 2 3 4);
        four_steps!((sums e w) 0x6ed9_eba1 vsha1pq_u32: 5 6 7 8 9);
        four_steps!((sums e w) 0x8f1b_bcdc vsha1mq_u32: 10 11 12 13 14);
        four_steps!((sums e w) 0xca62_c1d6 vsha1pq_u32: 15 16 17 18 19);
        for lane in 0..LANES {
            sums[lane] = vaddq_u32(sums[lane], old_sums[lane]);
            e[lane] = e[lane].wrapping_add(old_e[lane]);
        }
    }
    for (lane, state) in states.iter_mut().enumerate() {
        let [a, b, c, d] = to_words(sums[lane]);
        *state = [a, b, c, d, e[lane]];
    }
}
