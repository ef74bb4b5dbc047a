//! SHA-1 of sixteen streams with AVX-512.

use std::arch::x86_64::{
    __m512i, _mm_extract_epi32, _mm_set_epi64x, _mm256_set_m128i, _mm512_add_epi32, _mm512_broadcast_i32x4,
    _mm512_castsi256_si512, _mm512_extracti32x4_epi32, _mm512_inserti64x4, _mm512_rol_epi32, _mm512_set1_epi32,
    _mm512_setr_epi32, _mm512_shuffle_epi8, _mm512_ternarylogic_epi32, _mm512_unpackhi_epi32, _mm512_unpackhi_epi64,
    _mm512_unpacklo_epi32, _mm512_unpacklo_epi64, _mm512_xor_si512,
};

use super::avx2::quarter;
use super::vector::{sha1_lanes, sha1_steps, twenty_steps};

type Vector = __m512i;

sha1_lanes!("avx2,avx512f,avx512bw", 16, Vector);

#[inline]
#[target_feature(enable = "avx2,avx512f,avx512bw")]
fn splat(word: u32) -> Vector {
    _mm512_set1_epi32(word.cast_signed())
}

#[inline]
#[target_feature(enable = "avx2,avx512f,avx512bw")]
fn from_words(words: [u32; 16]) -> Vector {
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = words.map(u32::cast_signed);
    _mm512_setr_epi32(a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p)
}

#[inline]
#[target_feature(enable = "avx2,avx512f,avx512bw")]
fn to_words(vector: Vector) -> [u32; 16] {
    let quarters = [
        _mm512_extracti32x4_epi32::<0>(vector),
        _mm512_extracti32x4_epi32::<1>(vector),
        _mm512_extracti32x4_epi32::<2>(vector),
        _mm512_extracti32x4_epi32::<3>(vector),
    ];
    let mut words = [0; 16];
    for (words, quarter) in words.as_chunks_mut::<4>().0.iter_mut().zip(quarters) {
        let signed = [
            _mm_extract_epi32::<0>(quarter),
            _mm_extract_epi32::<1>(quarter),
            _mm_extract_epi32::<2>(quarter),
            _mm_extract_epi32::<3>(quarter),
        ];
        *words = signed.map(i32::cast_unsigned);
    }
    words
}

#[inline]
#[target_feature(enable = "avx2,avx512f,avx512bw")]
fn add(a: Vector, b: Vector) -> Vector {
    _mm512_add_epi32(a, b)
}

#[inline]
#[target_feature(enable = "avx2,avx512f,avx512bw")]
fn xor3(a: Vector, b: Vector, c: Vector) -> Vector {
    _mm512_ternarylogic_epi32::<0x96>(a, b, c)
}

#[inline]
#[target_feature(enable = "avx2,avx512f,avx512bw")]
fn xor4([a, b, c, d]: [Vector; 4]) -> Vector {
    _mm512_xor_si512(xor3(a, b, c), d)
}

#[inline]
#[target_feature(enable = "avx2,avx512f,avx512bw")]
fn choose(b: Vector, c: Vector, d: Vector) -> Vector {
    _mm512_ternarylogic_epi32::<0xca>(b, c, d)
}

#[inline]
#[target_feature(enable = "avx2,avx512f,avx512bw")]
fn majority(b: Vector, c: Vector, d: Vector) -> Vector {
    _mm512_ternarylogic_epi32::<0xe8>(b, c, d)
}

#[inline]
#[target_feature(enable = "avx2,avx512f,avx512bw")]
fn rotate_left_1(vector: Vector) -> Vector {
    _mm512_rol_epi32::<1>(vector)
}

#[inline]
#[target_feature(enable = "avx2,avx512f,avx512bw")]
fn rotate_left_5(vector: Vector) -> Vector {
    _mm512_rol_epi32::<5>(vector)
}

#[inline]
#[target_feature(enable = "avx2,avx512f,avx512bw")]
fn rotate_left_30(vector: Vector) -> Vector {
    _mm512_rol_epi32::<30>(vector)
}

/// The 16 words of each stream's block: each vector has the word of one number of all streams. Without loops, for the reason
/// that `sha_ni` gives.
#[inline]
#[target_feature(enable = "avx2,avx512f,avx512bw")]
fn from_blocks(blocks: [&[u8; 64]; 16]) -> [Vector; 16] {
    let [a, b, c, d] = [part::<0>(&blocks), part::<1>(&blocks), part::<2>(&blocks), part::<3>(&blocks)];
    [a[0], a[1], a[2], a[3], b[0], b[1], b[2], b[3], c[0], c[1], c[2], c[3], d[0], d[1], d[2], d[3]]
}

/// Four words of each stream's block, quarter `NUMBER` of it.
#[inline]
#[target_feature(enable = "avx2,avx512f,avx512bw")]
fn part<const NUMBER: usize>(blocks: &[&[u8; 64]; 16]) -> [Vector; 4] {
    // The quarters of each vector are of one stream and the fourth, eighth and twelfth after it.
    let [a, b, c, d] = [
        four_streams::<NUMBER>(blocks[0], blocks[4], blocks[8], blocks[12]),
        four_streams::<NUMBER>(blocks[1], blocks[5], blocks[9], blocks[13]),
        four_streams::<NUMBER>(blocks[2], blocks[6], blocks[10], blocks[14]),
        four_streams::<NUMBER>(blocks[3], blocks[7], blocks[11], blocks[15]),
    ];
    let (ab_low, cd_low) = (_mm512_unpacklo_epi32(a, b), _mm512_unpacklo_epi32(c, d));
    let (ab_high, cd_high) = (_mm512_unpackhi_epi32(a, b), _mm512_unpackhi_epi32(c, d));
    [
        _mm512_unpacklo_epi64(ab_low, cd_low),
        _mm512_unpackhi_epi64(ab_low, cd_low),
        _mm512_unpacklo_epi64(ab_high, cd_high),
        _mm512_unpackhi_epi64(ab_high, cd_high),
    ]
}

/// Four words of each of four streams.
#[inline]
#[target_feature(enable = "avx2,avx512f,avx512bw")]
fn four_streams<const NUMBER: usize>(a: &[u8; 64], b: &[u8; 64], c: &[u8; 64], d: &[u8; 64]) -> Vector {
    let low = _mm512_castsi256_si512(_mm256_set_m128i(quarter::<NUMBER>(b), quarter::<NUMBER>(a)));
    let swap = _mm512_broadcast_i32x4(_mm_set_epi64x(0x0c0d_0e0f_0809_0a0b, 0x0405_0607_0001_0203));
    let all = _mm512_inserti64x4::<1>(low, _mm256_set_m128i(quarter::<NUMBER>(d), quarter::<NUMBER>(c)));
    _mm512_shuffle_epi8(all, swap)
}
