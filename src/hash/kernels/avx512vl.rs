//! SHA-1 of eight streams with AVX2 and the rotations and three-operand logic of AVX-512.

use std::arch::x86_64::{_mm256_rol_epi32, _mm256_ternarylogic_epi32, _mm256_xor_si256};

use super::avx2::{Vector, add, from_blocks, from_words, splat, to_words};
use super::vector::{sha1_lanes, sha1_steps, twenty_steps};

sha1_lanes!("avx2,avx512f,avx512vl", 8, Vector);

#[inline]
#[target_feature(enable = "avx2,avx512f,avx512vl")]
fn xor3(a: Vector, b: Vector, c: Vector) -> Vector {
    _mm256_ternarylogic_epi32::<0x96>(a, b, c)
}

#[inline]
#[target_feature(enable = "avx2,avx512f,avx512vl")]
fn xor4([a, b, c, d]: [Vector; 4]) -> Vector {
    _mm256_xor_si256(xor3(a, b, c), d)
}

#[inline]
#[target_feature(enable = "avx2,avx512f,avx512vl")]
fn choose(b: Vector, c: Vector, d: Vector) -> Vector {
    _mm256_ternarylogic_epi32::<0xca>(b, c, d)
}

#[inline]
#[target_feature(enable = "avx2,avx512f,avx512vl")]
fn majority(b: Vector, c: Vector, d: Vector) -> Vector {
    _mm256_ternarylogic_epi32::<0xe8>(b, c, d)
}

#[inline]
#[target_feature(enable = "avx2,avx512f,avx512vl")]
fn rotate_left_1(vector: Vector) -> Vector {
    _mm256_rol_epi32::<1>(vector)
}

#[inline]
#[target_feature(enable = "avx2,avx512f,avx512vl")]
fn rotate_left_5(vector: Vector) -> Vector {
    _mm256_rol_epi32::<5>(vector)
}

#[inline]
#[target_feature(enable = "avx2,avx512f,avx512vl")]
fn rotate_left_30(vector: Vector) -> Vector {
    _mm256_rol_epi32::<30>(vector)
}
