//! SHA-1 of several streams with the SHA1 instructions of 64-bit ARM processors, for the reason given in `sha_ni`.

use std::arch::aarch64::{
    vaddq_u32, vgetq_lane_u32, vsha1cq_u32, vsha1h_u32, vsha1mq_u32, vsha1pq_u32, vsha1su0q_u32, vsha1su1q_u32,
};

use super::neon::{Vector, from_bytes, from_words, splat, to_words};

/// Four steps of each stream: number `$group` of the 20 groups.
macro_rules! four_steps {
    ($lanes:tt $values:tt $constant:literal $instruction:ident: $($group:literal)*) => {$(
        group_of_steps!($lanes $values $constant $instruction $group);
    )*};
}

macro_rules! group_of_steps {
    ([$($lane:literal)*] ($sums:ident $e:ident $w:ident) $constant:literal $instruction:ident $group:literal) => {$(
        let w = &mut $w[$lane];
        let next_e = vsha1h_u32(vgetq_lane_u32::<0>($sums[$lane]));
        $sums[$lane] = $instruction($sums[$lane], $e[$lane], vaddq_u32(w[$group & 3], splat($constant)));
        $e[$lane] = next_e;
        if $group < 16 {
            let mixed = vsha1su0q_u32(w[$group & 3], w[($group + 1) & 3], w[($group + 2) & 3]);
            w[$group & 3] = vsha1su1q_u32(mixed, w[($group + 3) & 3]);
        }
    )*};
}

/// Defines a function that hashes the blocks of these streams into their states. All have the same number of blocks. The lanes
/// are written out because the release profile, which optimises for size, does not unroll loops: the vectors would go through
/// memory.
macro_rules! compress_lanes {
    ($name:ident, $lanes:literal: $($lane:literal)*) => {
        #[target_feature(enable = "neon,sha2")]
        pub(super) fn $name(states: &mut [[u32; 5]; $lanes], blocks: [&[[u8; 64]]; $lanes]) {
            let count = blocks.iter().map(|blocks| blocks.len()).min().unwrap_or(0);
            let mut sums = [$(first_words(&states[$lane])),*];
            let mut e = [$(states[$lane][4]),*];
            #[allow(clippy::needless_range_loop)] // `number` is for all streams.
            for number in 0..count {
                let (old_sums, old_e) = (sums, e);
                let mut w = [$(load(&blocks[$lane][number])),*];
                four_steps!([$($lane)*] (sums e w) 0x5a82_7999 vsha1cq_u32: 0 1 2 3 4);
                four_steps!([$($lane)*] (sums e w) 0x6ed9_eba1 vsha1pq_u32: 5 6 7 8 9);
                four_steps!([$($lane)*] (sums e w) 0x8f1b_bcdc vsha1mq_u32: 10 11 12 13 14);
                four_steps!([$($lane)*] (sums e w) 0xca62_c1d6 vsha1pq_u32: 15 16 17 18 19);
                $(
                    sums[$lane] = vaddq_u32(sums[$lane], old_sums[$lane]);
                    e[$lane] = e[$lane].wrapping_add(old_e[$lane]);
                )*
            }
            $(
                let [a, b, c, d] = to_words(sums[$lane]);
                states[$lane] = [a, b, c, d, e[$lane]];
            )*
        }
    };
}

compress_lanes!(compress_2, 2: 0 1);
compress_lanes!(compress_4, 4: 0 1 2 3);

#[inline]
#[target_feature(enable = "neon,sha2")]
fn first_words(state: &[u32; 5]) -> Vector {
    let [a, b, c, d, _] = *state;
    from_words([a, b, c, d])
}

/// The 16 words of a block.
#[inline]
#[target_feature(enable = "neon,sha2")]
fn load(block: &[u8; 64]) -> [Vector; 4] {
    let parts = block.as_chunks::<16>().0;
    [from_bytes(&parts[0]), from_bytes(&parts[1]), from_bytes(&parts[2]), from_bytes(&parts[3])]
}
