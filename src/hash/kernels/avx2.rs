//! SHA-1 of eight streams with AVX2.

use std::arch::x86_64::{
    __m128i, __m256i, _mm_set_epi64x, _mm256_add_epi32, _mm256_and_si256, _mm256_broadcastsi128_si256,
    _mm256_extract_epi32, _mm256_or_si256, _mm256_set_m128i, _mm256_set1_epi32, _mm256_setr_epi32,
    _mm256_setzero_si256, _mm256_shuffle_epi8, _mm256_slli_epi32, _mm256_srli_epi32, _mm256_unpackhi_epi32,
    _mm256_unpackhi_epi64, _mm256_unpacklo_epi32, _mm256_unpacklo_epi64, _mm256_xor_si256,
};

use super::vector::{sha1_lanes, sha1_steps};

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

/// A quarter of a block, the bytes of its words not swapped yet.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn quarter(bytes: &[u8; 16]) -> __m128i {
    let bits = i128::from_le_bytes(*bytes);
    _mm_set_epi64x((bits >> 64) as i64, bits as i64)
}

/// The 16 words of each stream's block: each vector has the word of one number of all streams.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn from_blocks(blocks: [&[u8; 64]; 8]) -> [Vector; 16] {
    let swap = _mm256_broadcastsi128_si256(_mm_set_epi64x(0x0c0d_0e0f_0809_0a0b, 0x0405_0607_0001_0203));
    let parts = blocks.map(|block| block.as_chunks::<16>().0);
    let mut words = [_mm256_setzero_si256(); 16];
    for (part, words) in words.as_chunks_mut::<4>().0.iter_mut().enumerate() {
        // The low half of each vector is of stream `lane`, the high half of stream `lane + 4`.
        let [a, b, c, d]: [Vector; 4] = std::array::from_fn(|lane| {
            let bytes = _mm256_set_m128i(quarter(&parts[lane + 4][part]), quarter(&parts[lane][part]));
            _mm256_shuffle_epi8(bytes, swap)
        });
        let (ab_low, cd_low) = (_mm256_unpacklo_epi32(a, b), _mm256_unpacklo_epi32(c, d));
        let (ab_high, cd_high) = (_mm256_unpackhi_epi32(a, b), _mm256_unpackhi_epi32(c, d));
        *words = [
            _mm256_unpacklo_epi64(ab_low, cd_low),
            _mm256_unpackhi_epi64(ab_low, cd_low),
            _mm256_unpacklo_epi64(ab_high, cd_high),
            _mm256_unpackhi_epi64(ab_high, cd_high),
        ];
    }
    words
}
