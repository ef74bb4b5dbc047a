//! SHA-1 of eight streams with AVX2.

use std::arch::x86_64::{
    __m128i, __m256i, _mm_set_epi64x, _mm256_add_epi32, _mm256_and_si256, _mm256_broadcastsi128_si256,
    _mm256_extract_epi32, _mm256_or_si256, _mm256_set_m128i, _mm256_set1_epi32, _mm256_setr_epi32, _mm256_shuffle_epi8,
    _mm256_slli_epi32, _mm256_srli_epi32, _mm256_unpackhi_epi32, _mm256_unpackhi_epi64, _mm256_unpacklo_epi32,
    _mm256_unpacklo_epi64, _mm256_xor_si256,
};

use super::vector::{sha1_lanes, sha1_steps, twenty_steps};

pub(super) type Vector = __m256i;

sha1_lanes!("avx2", 8, Vector);

#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn splat(word: u32) -> Vector {
    _mm256_set1_epi32(word.cast_signed())
}

#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn from_words(words: [u32; 8]) -> Vector {
    let [a, b, c, d, e, f, g, h] = words.map(u32::cast_signed);
    _mm256_setr_epi32(a, b, c, d, e, f, g, h)
}

#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn to_words(vector: Vector) -> [u32; 8] {
    let words = [
        _mm256_extract_epi32::<0>(vector),
        _mm256_extract_epi32::<1>(vector),
        _mm256_extract_epi32::<2>(vector),
        _mm256_extract_epi32::<3>(vector),
        _mm256_extract_epi32::<4>(vector),
        _mm256_extract_epi32::<5>(vector),
        _mm256_extract_epi32::<6>(vector),
        _mm256_extract_epi32::<7>(vector),
    ];
    words.map(i32::cast_unsigned)
}

#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn add(a: Vector, b: Vector) -> Vector {
    _mm256_add_epi32(a, b)
}

#[inline]
#[target_feature(enable = "avx2")]
fn xor3(a: Vector, b: Vector, c: Vector) -> Vector {
    _mm256_xor_si256(_mm256_xor_si256(a, b), c)
}

#[inline]
#[target_feature(enable = "avx2")]
fn xor4([a, b, c, d]: [Vector; 4]) -> Vector {
    _mm256_xor_si256(_mm256_xor_si256(a, b), _mm256_xor_si256(c, d))
}

#[inline]
#[target_feature(enable = "avx2")]
fn choose(b: Vector, c: Vector, d: Vector) -> Vector {
    _mm256_xor_si256(d, _mm256_and_si256(b, _mm256_xor_si256(c, d)))
}

#[inline]
#[target_feature(enable = "avx2")]
fn majority(b: Vector, c: Vector, d: Vector) -> Vector {
    _mm256_or_si256(_mm256_and_si256(b, c), _mm256_and_si256(d, _mm256_or_si256(b, c)))
}

#[inline]
#[target_feature(enable = "avx2")]
fn rotate_left_1(vector: Vector) -> Vector {
    _mm256_or_si256(_mm256_add_epi32(vector, vector), _mm256_srli_epi32::<31>(vector))
}

#[inline]
#[target_feature(enable = "avx2")]
fn rotate_left_5(vector: Vector) -> Vector {
    _mm256_or_si256(_mm256_slli_epi32::<5>(vector), _mm256_srli_epi32::<27>(vector))
}

#[inline]
#[target_feature(enable = "avx2")]
fn rotate_left_30(vector: Vector) -> Vector {
    _mm256_or_si256(_mm256_slli_epi32::<30>(vector), _mm256_srli_epi32::<2>(vector))
}

/// The quarter of a block with this number, the bytes of its words not swapped yet.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn quarter<const NUMBER: usize>(block: &[u8; 64]) -> __m128i {
    let bits = block.as_chunks::<16>().0[NUMBER];
    let bits = i128::from_le_bytes(bits);
    _mm_set_epi64x((bits >> 64) as i64, bits as i64)
}

/// The 16 words of each stream's block: each vector has the word of one number of all streams. Without loops, for the reason
/// that `sha_ni` gives.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn from_blocks(blocks: [&[u8; 64]; 8]) -> [Vector; 16] {
    let [a, b, c, d] = [part::<0>(&blocks), part::<1>(&blocks), part::<2>(&blocks), part::<3>(&blocks)];
    [a[0], a[1], a[2], a[3], b[0], b[1], b[2], b[3], c[0], c[1], c[2], c[3], d[0], d[1], d[2], d[3]]
}

/// Four words of each stream's block, quarter `NUMBER` of it.
#[inline]
#[target_feature(enable = "avx2")]
fn part<const NUMBER: usize>(blocks: &[&[u8; 64]; 8]) -> [Vector; 4] {
    // The low half of each vector is of the first stream, the high half of the fourth after it.
    let [a, b, c, d] = [
        pair::<NUMBER>(blocks[0], blocks[4]),
        pair::<NUMBER>(blocks[1], blocks[5]),
        pair::<NUMBER>(blocks[2], blocks[6]),
        pair::<NUMBER>(blocks[3], blocks[7]),
    ];
    let (ab_low, cd_low) = (_mm256_unpacklo_epi32(a, b), _mm256_unpacklo_epi32(c, d));
    let (ab_high, cd_high) = (_mm256_unpackhi_epi32(a, b), _mm256_unpackhi_epi32(c, d));
    [
        _mm256_unpacklo_epi64(ab_low, cd_low),
        _mm256_unpackhi_epi64(ab_low, cd_low),
        _mm256_unpacklo_epi64(ab_high, cd_high),
        _mm256_unpackhi_epi64(ab_high, cd_high),
    ]
}

/// Four words of two streams.
#[inline]
#[target_feature(enable = "avx2")]
fn pair<const NUMBER: usize>(low: &[u8; 64], high: &[u8; 64]) -> Vector {
    let swap = _mm256_broadcastsi128_si256(_mm_set_epi64x(0x0c0d_0e0f_0809_0a0b, 0x0405_0607_0001_0203));
    _mm256_shuffle_epi8(_mm256_set_m128i(quarter::<NUMBER>(high), quarter::<NUMBER>(low)), swap)
}
