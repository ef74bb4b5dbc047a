//! SHA-1 of several streams with the SHA instructions of x86 processors (SHA-NI). One stream uses less than half of the unit,
//! because each instruction waits for the one before it; those of several streams do not wait for each other.

use std::arch::x86_64::{
    __m128i, _mm_add_epi32, _mm_extract_epi32, _mm_set_epi32, _mm_set_epi64x, _mm_setzero_si128, _mm_sha1msg1_epu32,
    _mm_sha1msg2_epu32, _mm_sha1nexte_epu32, _mm_sha1rnds4_epu32, _mm_shuffle_epi8, _mm_xor_si128,
};

/// Four steps of each stream: number `$group` of the 20 groups, which use one of four functions.
macro_rules! four_steps {
    (($sums:ident $before:ident $first_e:ident $w:ident) $function:literal: $($group:literal)*) => {$(
        for lane in 0..LANES {
            let words = $w[lane][$group & 3];
            let e = if $group == 0 {
                _mm_add_epi32($first_e[lane], words)
            } else {
                _mm_sha1nexte_epu32($before[lane], words)
            };
            $before[lane] = $sums[lane];
            $sums[lane] = _mm_sha1rnds4_epu32::<$function>($sums[lane], e);
        }
        if $group >= 3 && $group < 19 {
            for w in &mut $w {
                let mixed = _mm_sha1msg1_epu32(w[($group + 1) & 3], w[($group + 2) & 3]);
                w[($group + 1) & 3] = _mm_sha1msg2_epu32(_mm_xor_si128(mixed, w[($group + 3) & 3]), w[$group & 3]);
            }
        }
    )*};
}

/// Hashes the blocks of `LANES` streams into their states. All have the same number of blocks.
#[target_feature(enable = "sha,sse4.1,ssse3")]
pub(super) fn compress<const LANES: usize>(states: &mut [[u32; 5]; LANES], blocks: [&[[u8; 64]]; LANES]) {
    let count = blocks.iter().map(|blocks| blocks.len()).min().unwrap_or(0);
    // The words a to d of each stream, and e in the highest word.
    let mut sums = [_mm_setzero_si128(); LANES];
    let mut e_sums = [_mm_setzero_si128(); LANES];
    for (lane, state) in states.iter().enumerate() {
        let [a, b, c, d, e] = state.map(u32::cast_signed);
        sums[lane] = _mm_set_epi32(a, b, c, d);
        e_sums[lane] = _mm_set_epi32(e, 0, 0, 0);
    }
    #[allow(clippy::needless_range_loop)] // `number` is for all streams.
    for number in 0..count {
        let (old_sums, old_e_sums) = (sums, e_sums);
        let mut w: [[__m128i; 4]; LANES] = std::array::from_fn(|lane| load(&blocks[lane][number]));
        let mut before = [_mm_setzero_si128(); LANES];
        four_steps!((sums before old_e_sums w) 0: 0 1 2 3 4);
        four_steps!((sums before old_e_sums w) 1: 5 6 7 8 9);
        four_steps!((sums before old_e_sums w) 2: 10 11 12 13 14);
        four_steps!((sums before old_e_sums w) 3: 15 16 17 18 19);
        for lane in 0..LANES {
            e_sums[lane] = _mm_sha1nexte_epu32(before[lane], old_e_sums[lane]);
            sums[lane] = _mm_add_epi32(sums[lane], old_sums[lane]);
        }
    }
    for (lane, state) in states.iter_mut().enumerate() {
        let words = [
            _mm_extract_epi32::<3>(sums[lane]),
            _mm_extract_epi32::<2>(sums[lane]),
            _mm_extract_epi32::<1>(sums[lane]),
            _mm_extract_epi32::<0>(sums[lane]),
            _mm_extract_epi32::<3>(e_sums[lane]),
        ];
        *state = words.map(i32::cast_unsigned);
    }
}

/// The 16 words of a block, the first of each four in the highest place.
#[inline]
#[target_feature(enable = "sha,sse4.1,ssse3")]
fn load(block: &[u8; 64]) -> [__m128i; 4] {
    let swap = _mm_set_epi64x(0x0001_0203_0405_0607, 0x0809_0a0b_0c0d_0e0f);
    let parts = block.as_chunks::<16>().0;
    std::array::from_fn(|part| {
        let bits = i128::from_le_bytes(parts[part]);
        _mm_shuffle_epi8(_mm_set_epi64x((bits >> 64) as i64, bits as i64), swap)
    })
}
