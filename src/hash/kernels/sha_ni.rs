//! SHA-1 of several streams with the SHA instructions of x86 processors (SHA-NI). One stream uses less than half of the unit,
//! because each instruction waits for the one before it; those of several streams do not wait for each other.

use std::arch::x86_64::{
    __m128i, _mm_add_epi32, _mm_extract_epi32, _mm_set_epi32, _mm_set_epi64x, _mm_setzero_si128, _mm_sha1msg1_epu32,
    _mm_sha1msg2_epu32, _mm_sha1nexte_epu32, _mm_sha1rnds4_epu32, _mm_shuffle_epi8, _mm_xor_si128,
};

/// Four steps of each stream: number `$group` of the 20 groups, which use one of four functions.
macro_rules! four_steps {
    ($lanes:tt $values:tt $function:literal: $($group:literal)*) => {$(
        group_of_steps!($lanes $values $function $group);
    )*};
}

macro_rules! group_of_steps {
    ([$($lane:literal)*] ($sums:ident $before:ident $first_e:ident $w:ident) $function:literal $group:literal) => {
        $(
            let words = $w[$lane][$group & 3];
            let e = if $group == 0 {
                _mm_add_epi32($first_e[$lane], words)
            } else {
                _mm_sha1nexte_epu32($before[$lane], words)
            };
            $before[$lane] = $sums[$lane];
            $sums[$lane] = _mm_sha1rnds4_epu32::<$function>($sums[$lane], e);
        )*
        if $group >= 3 && $group < 19 {
            $(
                let w = &mut $w[$lane];
                let mixed = _mm_sha1msg1_epu32(w[($group + 1) & 3], w[($group + 2) & 3]);
                w[($group + 1) & 3] = _mm_sha1msg2_epu32(_mm_xor_si128(mixed, w[($group + 3) & 3]), w[$group & 3]);
            )*
        }
    };
}

/// Defines a function that hashes the blocks of these streams into their states. All have the same number of blocks. The lanes
/// are written out because the release profile, which optimises for size, does not unroll loops: the vectors would go through
/// memory.
macro_rules! compress_lanes {
    ($name:ident, $lanes:literal: $($lane:literal)*) => {
        #[target_feature(enable = "sha,sse4.1,ssse3")]
        pub(super) fn $name(states: &mut [[u32; 5]; $lanes], blocks: [&[[u8; 64]]; $lanes]) {
            let count = blocks.iter().map(|blocks| blocks.len()).min().unwrap_or(0);
            // The words a to d of each stream, and e in the highest word.
            let mut sums = [$(first_words(&states[$lane])),*];
            let mut e_sums = [$(last_word(&states[$lane])),*];
            #[allow(clippy::needless_range_loop)] // `number` is for all streams.
            for number in 0..count {
                let (old_sums, old_e_sums) = (sums, e_sums);
                let mut w = [$(load(&blocks[$lane][number])),*];
                let mut before = [_mm_setzero_si128(); $lanes];
                four_steps!([$($lane)*] (sums before old_e_sums w) 0: 0 1 2 3 4);
                four_steps!([$($lane)*] (sums before old_e_sums w) 1: 5 6 7 8 9);
                four_steps!([$($lane)*] (sums before old_e_sums w) 2: 10 11 12 13 14);
                four_steps!([$($lane)*] (sums before old_e_sums w) 3: 15 16 17 18 19);
                $(
                    e_sums[$lane] = _mm_sha1nexte_epu32(before[$lane], old_e_sums[$lane]);
                    sums[$lane] = _mm_add_epi32(sums[$lane], old_sums[$lane]);
                )*
            }
            $(states[$lane] = state(sums[$lane], e_sums[$lane]);)*
        }
    };
}

compress_lanes!(compress_2, 2: 0 1);
compress_lanes!(compress_4, 4: 0 1 2 3);

#[inline]
#[target_feature(enable = "sha,sse4.1,ssse3")]
fn first_words(state: &[u32; 5]) -> __m128i {
    let [a, b, c, d, _] = state.map(u32::cast_signed);
    _mm_set_epi32(a, b, c, d)
}

#[inline]
#[target_feature(enable = "sha,sse4.1,ssse3")]
fn last_word(state: &[u32; 5]) -> __m128i {
    _mm_set_epi32(state[4].cast_signed(), 0, 0, 0)
}

#[inline]
#[target_feature(enable = "sha,sse4.1,ssse3")]
fn state(sums: __m128i, e_sums: __m128i) -> [u32; 5] {
    let words = [
        _mm_extract_epi32::<3>(sums),
        _mm_extract_epi32::<2>(sums),
        _mm_extract_epi32::<1>(sums),
        _mm_extract_epi32::<0>(sums),
        _mm_extract_epi32::<3>(e_sums),
    ];
    words.map(i32::cast_unsigned)
}

/// The 16 words of a block, the first of each four in the highest place.
#[inline]
#[target_feature(enable = "sha,sse4.1,ssse3")]
fn load(block: &[u8; 64]) -> [__m128i; 4] {
    let parts = block.as_chunks::<16>().0;
    [four_words(&parts[0]), four_words(&parts[1]), four_words(&parts[2]), four_words(&parts[3])]
}

#[inline]
#[target_feature(enable = "sha,sse4.1,ssse3")]
fn four_words(part: &[u8; 16]) -> __m128i {
    let swap = _mm_set_epi64x(0x0001_0203_0405_0607, 0x0809_0a0b_0c0d_0e0f);
    let bits = i128::from_le_bytes(*part);
    _mm_shuffle_epi8(_mm_set_epi64x((bits >> 64) as i64, bits as i64), swap)
}
