//! SHA-1 of sixteen streams with AVX-512.

use std::arch::x86_64::{
    __m512i, _mm_extract_epi32, _mm_set_epi64x, _mm256_set_m128i, _mm512_add_epi32, _mm512_broadcast_i32x4,
    _mm512_castsi256_si512, _mm512_extracti32x4_epi32, _mm512_inserti64x4, _mm512_rol_epi32, _mm512_set1_epi32,
    _mm512_setr_epi32, _mm512_setzero_si512, _mm512_shuffle_epi8, _mm512_ternarylogic_epi32, _mm512_unpackhi_epi32,
    _mm512_unpackhi_epi64, _mm512_unpacklo_epi32, _mm512_unpacklo_epi64, _mm512_xor_si512,
};

use super::avx2::quarter;
use super::vector::{sha1_lanes, sha1_steps};

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

/// Four big-endian words of each of four streams.
#[inline]
#[target_feature(enable = "avx2,avx512f,avx512bw")]
fn from_bytes(parts: [&[u8; 16]; 4]) -> Vector {
    let [a, b, c, d] = parts.map(|part| quarter(part));
    let low = _mm512_castsi256_si512(_mm256_set_m128i(b, a));
    let swap = _mm512_broadcast_i32x4(_mm_set_epi64x(0x0c0d_0e0f_0809_0a0b, 0x0405_0607_0001_0203));
    _mm512_shuffle_epi8(_mm512_inserti64x4::<1>(low, _mm256_set_m128i(d, c)), swap)
}

/// The 16 words of each stream's block: each vector has the word of one number of all streams.
#[inline]
#[target_feature(enable = "avx2,avx512f,avx512bw")]
fn from_blocks(blocks: [&[u8; 64]; 16]) -> [Vector; 16] {
    let parts = blocks.map(|block| block.as_chunks::<16>().0);
    let mut words = [_mm512_setzero_si512(); 16];
    for (part, words) in words.as_chunks_mut::<4>().0.iter_mut().enumerate() {
        // Each quarter of a vector is of another stream: `lane`, `lane + 4`, `lane + 8`, `lane + 12`.
        let [a, b, c, d]: [Vector; 4] = std::array::from_fn(|lane| {
            let quarters = std::array::from_fn(|quarter| &parts[lane + 4 * quarter][part]);
            from_bytes(quarters)
        });
        let (ab_low, cd_low) = (_mm512_unpacklo_epi32(a, b), _mm512_unpacklo_epi32(c, d));
        let (ab_high, cd_high) = (_mm512_unpackhi_epi32(a, b), _mm512_unpackhi_epi32(c, d));
        *words = [
            _mm512_unpacklo_epi64(ab_low, cd_low),
            _mm512_unpackhi_epi64(ab_low, cd_low),
            _mm512_unpacklo_epi64(ab_high, cd_high),
            _mm512_unpackhi_epi64(ab_high, cd_high),
        ];
    }
    words
}
