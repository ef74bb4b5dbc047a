//! SHA-1 of four streams with SSE2, which every 64-bit x86 processor has.

use std::arch::x86_64::{
    __m128i, _mm_add_epi32, _mm_and_si128, _mm_cvtsi128_si64, _mm_or_si128, _mm_set_epi64x, _mm_set1_epi32,
    _mm_setr_epi32, _mm_shufflehi_epi16, _mm_shufflelo_epi16, _mm_slli_epi16, _mm_slli_epi32, _mm_srli_epi16,
    _mm_srli_epi32, _mm_unpackhi_epi32, _mm_unpackhi_epi64, _mm_unpacklo_epi32, _mm_unpacklo_epi64, _mm_xor_si128,
};

use super::vector::{sha1_lanes, sha1_steps, twenty_steps};

type Vector = __m128i;

sha1_lanes!("sse2", 4, Vector);

#[inline]
#[target_feature(enable = "sse2")]
fn splat(word: u32) -> Vector {
    _mm_set1_epi32(word.cast_signed())
}

#[inline]
#[target_feature(enable = "sse2")]
fn from_words(words: [u32; 4]) -> Vector {
    let [a, b, c, d] = words.map(u32::cast_signed);
    _mm_setr_epi32(a, b, c, d)
}

#[inline]
#[target_feature(enable = "sse2")]
fn to_words(vector: Vector) -> [u32; 4] {
    let low = _mm_cvtsi128_si64(vector).cast_unsigned();
    let high = _mm_cvtsi128_si64(_mm_unpackhi_epi64(vector, vector)).cast_unsigned();
    [low as u32, (low >> 32) as u32, high as u32, (high >> 32) as u32]
}

#[inline]
#[target_feature(enable = "sse2")]
fn add(a: Vector, b: Vector) -> Vector {
    _mm_add_epi32(a, b)
}

#[inline]
#[target_feature(enable = "sse2")]
fn xor3(a: Vector, b: Vector, c: Vector) -> Vector {
    _mm_xor_si128(_mm_xor_si128(a, b), c)
}

#[inline]
#[target_feature(enable = "sse2")]
fn xor4([a, b, c, d]: [Vector; 4]) -> Vector {
    _mm_xor_si128(_mm_xor_si128(a, b), _mm_xor_si128(c, d))
}

#[inline]
#[target_feature(enable = "sse2")]
fn choose(b: Vector, c: Vector, d: Vector) -> Vector {
    _mm_xor_si128(d, _mm_and_si128(b, _mm_xor_si128(c, d)))
}

#[inline]
#[target_feature(enable = "sse2")]
fn majority(b: Vector, c: Vector, d: Vector) -> Vector {
    _mm_or_si128(_mm_and_si128(b, c), _mm_and_si128(d, _mm_or_si128(b, c)))
}

#[inline]
#[target_feature(enable = "sse2")]
fn rotate_left_1(vector: Vector) -> Vector {
    _mm_or_si128(_mm_add_epi32(vector, vector), _mm_srli_epi32::<31>(vector))
}

#[inline]
#[target_feature(enable = "sse2")]
fn rotate_left_5(vector: Vector) -> Vector {
    _mm_or_si128(_mm_slli_epi32::<5>(vector), _mm_srli_epi32::<27>(vector))
}

#[inline]
#[target_feature(enable = "sse2")]
fn rotate_left_30(vector: Vector) -> Vector {
    _mm_or_si128(_mm_slli_epi32::<30>(vector), _mm_srli_epi32::<2>(vector))
}

/// The 16 words of each stream's block: each vector has the word of one number of all streams. Without loops, for the reason
/// that `sha_ni` gives.
#[inline]
#[target_feature(enable = "sse2")]
fn from_blocks(blocks: [&[u8; 64]; 4]) -> [Vector; 16] {
    let [a, b, c, d] = [part::<0>(&blocks), part::<1>(&blocks), part::<2>(&blocks), part::<3>(&blocks)];
    [a[0], a[1], a[2], a[3], b[0], b[1], b[2], b[3], c[0], c[1], c[2], c[3], d[0], d[1], d[2], d[3]]
}

/// Four words of each stream's block, quarter `NUMBER` of it.
#[inline]
#[target_feature(enable = "sse2")]
fn part<const NUMBER: usize>(blocks: &[&[u8; 64]; 4]) -> [Vector; 4] {
    let [a, b, c, d] = [
        from_bytes::<NUMBER>(blocks[0]),
        from_bytes::<NUMBER>(blocks[1]),
        from_bytes::<NUMBER>(blocks[2]),
        from_bytes::<NUMBER>(blocks[3]),
    ];
    let (ab_low, cd_low) = (_mm_unpacklo_epi32(a, b), _mm_unpacklo_epi32(c, d));
    let (ab_high, cd_high) = (_mm_unpackhi_epi32(a, b), _mm_unpackhi_epi32(c, d));
    [
        _mm_unpacklo_epi64(ab_low, cd_low),
        _mm_unpackhi_epi64(ab_low, cd_low),
        _mm_unpacklo_epi64(ab_high, cd_high),
        _mm_unpackhi_epi64(ab_high, cd_high),
    ]
}

/// Four big-endian words, quarter `NUMBER` of a block.
#[inline]
#[target_feature(enable = "sse2")]
fn from_bytes<const NUMBER: usize>(block: &[u8; 64]) -> Vector {
    let bits = i128::from_le_bytes(block.as_chunks::<16>().0[NUMBER]);
    let vector = _mm_set_epi64x((bits >> 64) as i64, bits as i64);
    let halves = _mm_or_si128(_mm_slli_epi16::<8>(vector), _mm_srli_epi16::<8>(vector));
    _mm_shufflehi_epi16::<0b10_11_00_01>(_mm_shufflelo_epi16::<0b10_11_00_01>(halves))
}
