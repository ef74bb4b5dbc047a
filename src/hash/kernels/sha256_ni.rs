//! SHA-256 of two streams with the SHA instructions of x86 processors (SHA-NI). One stream uses half of the unit, because each
//! instruction waits for the one before it.

use std::arch::x86_64::{
    __m128i, _mm_add_epi32, _mm_alignr_epi8, _mm_extract_epi32, _mm_set_epi32, _mm_set_epi64x, _mm_sha256msg1_epu32,
    _mm_sha256msg2_epu32, _mm_sha256rnds2_epu32, _mm_shuffle_epi8, _mm_shuffle_epi32,
};

/// The constants of the 64 rounds (FIPS 180-4).
const ROUND_CONSTANTS: [[u32; 4]; 16] = [
    [0x428a_2f98, 0x7137_4491, 0xb5c0_fbcf, 0xe9b5_dba5],
    [0x3956_c25b, 0x59f1_11f1, 0x923f_82a4, 0xab1c_5ed5],
    [0xd807_aa98, 0x1283_5b01, 0x2431_85be, 0x550c_7dc3],
    [0x72be_5d74, 0x80de_b1fe, 0x9bdc_06a7, 0xc19b_f174],
    [0xe49b_69c1, 0xefbe_4786, 0x0fc1_9dc6, 0x240c_a1cc],
    [0x2de9_2c6f, 0x4a74_84aa, 0x5cb0_a9dc, 0x76f9_88da],
    [0x983e_5152, 0xa831_c66d, 0xb003_27c8, 0xbf59_7fc7],
    [0xc6e0_0bf3, 0xd5a7_9147, 0x06ca_6351, 0x1429_2967],
    [0x27b7_0a85, 0x2e1b_2138, 0x4d2c_6dfc, 0x5338_0d13],
    [0x650a_7354, 0x766a_0abb, 0x81c2_c92e, 0x9272_2c85],
    [0xa2bf_e8a1, 0xa81a_664b, 0xc24b_8b70, 0xc76c_51a3],
    [0xd192_e819, 0xd699_0624, 0xf40e_3585, 0x106a_a070],
    [0x19a4_c116, 0x1e37_6c08, 0x2748_774c, 0x34b0_bcb5],
    [0x391c_0cb3, 0x4ed8_aa4a, 0x5b9c_ca4f, 0x682e_6ff3],
    [0x748f_82ee, 0x78a5_636f, 0x84c8_7814, 0x8cc7_0208],
    [0x90be_fffa, 0xa450_6ceb, 0xbef9_a3f7, 0xc671_78f2],
];

/// Four rounds of both streams: number `$group` of the 16 groups. Written out, because the release profile does not unroll loops.
macro_rules! four_rounds {
    (($first:ident $last:ident $w:ident) $($group:literal)*) => {$(
        if $group >= 4 {
            $w[0][$group & 3] = next_words(&$w[0], $group);
            $w[1][$group & 3] = next_words(&$w[1], $group);
        }
        let [k0, k1, k2, k3] = ROUND_CONSTANTS[$group].map(u32::cast_signed);
        let constants = _mm_set_epi32(k3, k2, k1, k0);
        let sums = [_mm_add_epi32($w[0][$group & 3], constants), _mm_add_epi32($w[1][$group & 3], constants)];
        $last[0] = _mm_sha256rnds2_epu32($last[0], $first[0], sums[0]);
        $last[1] = _mm_sha256rnds2_epu32($last[1], $first[1], sums[1]);
        $first[0] = _mm_sha256rnds2_epu32($first[0], $last[0], _mm_shuffle_epi32::<0x0e>(sums[0]));
        $first[1] = _mm_sha256rnds2_epu32($first[1], $last[1], _mm_shuffle_epi32::<0x0e>(sums[1]));
    )*};
}

/// Hashes the blocks of two streams, which have equally many, into their states.
#[target_feature(enable = "sha,sse4.1,ssse3")]
pub(super) fn compress_2(states: &mut [[u32; 8]; 2], blocks: [&[[u8; 64]]; 2]) {
    // The words a, b, e and f of each state, and c, d, g and h, as the instructions take them.
    let mut first = [abef(&states[0]), abef(&states[1])];
    let mut last = [cdgh(&states[0]), cdgh(&states[1])];
    for (one, other) in blocks[0].iter().zip(blocks[1]) {
        let (old_first, old_last) = (first, last);
        let mut w = [load(one), load(other)];
        four_rounds!((first last w) 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15);
        first = [_mm_add_epi32(first[0], old_first[0]), _mm_add_epi32(first[1], old_first[1])];
        last = [_mm_add_epi32(last[0], old_last[0]), _mm_add_epi32(last[1], old_last[1])];
    }
    states[0] = state(first[0], last[0]);
    states[1] = state(first[1], last[1]);
}

/// The words of the message schedule that replace those of four groups ago.
#[inline]
#[target_feature(enable = "sha,sse4.1,ssse3")]
fn next_words(w: &[__m128i; 4], group: usize) -> __m128i {
    let [oldest, old, new, newest] = [w[group & 3], w[(group + 1) & 3], w[(group + 2) & 3], w[(group + 3) & 3]];
    let sum = _mm_add_epi32(_mm_sha256msg1_epu32(oldest, old), _mm_alignr_epi8::<4>(newest, new));
    _mm_sha256msg2_epu32(sum, newest)
}

#[inline]
#[target_feature(enable = "sha,sse4.1,ssse3")]
fn abef(state: &[u32; 8]) -> __m128i {
    let [a, b, _, _, e, f, _, _] = state.map(u32::cast_signed);
    _mm_set_epi32(a, b, e, f)
}

#[inline]
#[target_feature(enable = "sha,sse4.1,ssse3")]
fn cdgh(state: &[u32; 8]) -> __m128i {
    let [_, _, c, d, _, _, g, h] = state.map(u32::cast_signed);
    _mm_set_epi32(c, d, g, h)
}

#[inline]
#[target_feature(enable = "sha,sse4.1,ssse3")]
fn state(abef: __m128i, cdgh: __m128i) -> [u32; 8] {
    let [a, b, e, f] = words(abef);
    let [c, d, g, h] = words(cdgh);
    [a, b, c, d, e, f, g, h]
}

/// The four words, from the highest.
#[inline]
#[target_feature(enable = "sha,sse4.1,ssse3")]
fn words(vector: __m128i) -> [u32; 4] {
    let words = [
        _mm_extract_epi32::<3>(vector),
        _mm_extract_epi32::<2>(vector),
        _mm_extract_epi32::<1>(vector),
        _mm_extract_epi32::<0>(vector),
    ];
    words.map(i32::cast_unsigned)
}

/// The 16 words of a block, the first of each four in the lowest place.
#[inline]
#[target_feature(enable = "sha,sse4.1,ssse3")]
fn load(block: &[u8; 64]) -> [__m128i; 4] {
    let parts = block.as_chunks::<16>().0;
    [four_words(&parts[0]), four_words(&parts[1]), four_words(&parts[2]), four_words(&parts[3])]
}

#[inline]
#[target_feature(enable = "sha,sse4.1,ssse3")]
fn four_words(part: &[u8; 16]) -> __m128i {
    let swap = _mm_set_epi64x(0x0c0d_0e0f_0809_0a0b, 0x0405_0607_0001_0203);
    let bits = i128::from_le_bytes(*part);
    _mm_shuffle_epi8(_mm_set_epi64x((bits >> 64) as i64, bits as i64), swap)
}
