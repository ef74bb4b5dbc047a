//! SHA-1 of four streams with NEON, which every 64-bit ARM processor has.

use std::arch::aarch64::{
    uint32x4_t, vaddq_u32, vbslq_u32, vcombine_u32, vcreate_u32, vdupq_n_u32, veorq_u32, vgetq_lane_u32,
    vreinterpretq_u8_u32, vreinterpretq_u32_u8, vreinterpretq_u32_u64, vreinterpretq_u64_u32, vrev32q_u8, vshlq_n_u32,
    vsriq_n_u32, vtrn1q_u64, vtrn2q_u64, vzip1q_u32, vzip2q_u32,
};

use super::vector::{sha1_lanes, sha1_steps, twenty_steps};

pub(super) type Vector = uint32x4_t;

sha1_lanes!("neon", 4, Vector);

#[inline]
#[target_feature(enable = "neon")]
pub(super) fn splat(word: u32) -> Vector {
    vdupq_n_u32(word)
}

#[inline]
#[target_feature(enable = "neon")]
pub(super) fn from_words([a, b, c, d]: [u32; 4]) -> Vector {
    let pair = |low: u32, high: u32| vcreate_u32(u64::from(low) | u64::from(high) << 32);
    vcombine_u32(pair(a, b), pair(c, d))
}

#[inline]
#[target_feature(enable = "neon")]
pub(super) fn to_words(vector: Vector) -> [u32; 4] {
    [vgetq_lane_u32::<0>(vector), vgetq_lane_u32::<1>(vector), vgetq_lane_u32::<2>(vector), vgetq_lane_u32::<3>(vector)]
}

#[inline]
#[target_feature(enable = "neon")]
fn add(a: Vector, b: Vector) -> Vector {
    vaddq_u32(a, b)
}

#[inline]
#[target_feature(enable = "neon")]
fn xor3(a: Vector, b: Vector, c: Vector) -> Vector {
    veorq_u32(veorq_u32(a, b), c)
}

#[inline]
#[target_feature(enable = "neon")]
fn xor4([a, b, c, d]: [Vector; 4]) -> Vector {
    veorq_u32(veorq_u32(a, b), veorq_u32(c, d))
}

#[inline]
#[target_feature(enable = "neon")]
fn choose(b: Vector, c: Vector, d: Vector) -> Vector {
    vbslq_u32(b, c, d)
}

#[inline]
#[target_feature(enable = "neon")]
fn majority(b: Vector, c: Vector, d: Vector) -> Vector {
    vbslq_u32(veorq_u32(b, c), d, b)
}

#[inline]
#[target_feature(enable = "neon")]
fn rotate_left_1(vector: Vector) -> Vector {
    vsriq_n_u32::<31>(vaddq_u32(vector, vector), vector)
}

#[inline]
#[target_feature(enable = "neon")]
fn rotate_left_5(vector: Vector) -> Vector {
    vsriq_n_u32::<27>(vshlq_n_u32::<5>(vector), vector)
}

#[inline]
#[target_feature(enable = "neon")]
fn rotate_left_30(vector: Vector) -> Vector {
    vsriq_n_u32::<2>(vshlq_n_u32::<30>(vector), vector)
}

/// Four big-endian words.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn from_bytes(bytes: &[u8; 16]) -> Vector {
    let bits = u128::from_le_bytes(*bytes);
    let words = vcombine_u32(vcreate_u32(bits as u64), vcreate_u32((bits >> 64) as u64));
    vreinterpretq_u32_u8(vrev32q_u8(vreinterpretq_u8_u32(words)))
}

/// The 16 words of each stream's block: each vector has the word of one number of all streams. Without loops, for the reason
/// that `aarch64` gives.
#[inline]
#[target_feature(enable = "neon")]
fn from_blocks(blocks: [&[u8; 64]; 4]) -> [Vector; 16] {
    let [a, b, c, d] = [part::<0>(&blocks), part::<1>(&blocks), part::<2>(&blocks), part::<3>(&blocks)];
    [a[0], a[1], a[2], a[3], b[0], b[1], b[2], b[3], c[0], c[1], c[2], c[3], d[0], d[1], d[2], d[3]]
}

/// Four words of each stream's block, quarter `NUMBER` of it.
#[inline]
#[target_feature(enable = "neon")]
fn part<const NUMBER: usize>(blocks: &[&[u8; 64]; 4]) -> [Vector; 4] {
    let [a, b, c, d] = [
        from_bytes(&blocks[0].as_chunks::<16>().0[NUMBER]),
        from_bytes(&blocks[1].as_chunks::<16>().0[NUMBER]),
        from_bytes(&blocks[2].as_chunks::<16>().0[NUMBER]),
        from_bytes(&blocks[3].as_chunks::<16>().0[NUMBER]),
    ];
    let (ab_low, cd_low) = (vreinterpretq_u64_u32(vzip1q_u32(a, b)), vreinterpretq_u64_u32(vzip1q_u32(c, d)));
    let (ab_high, cd_high) = (vreinterpretq_u64_u32(vzip2q_u32(a, b)), vreinterpretq_u64_u32(vzip2q_u32(c, d)));
    [
        vreinterpretq_u32_u64(vtrn1q_u64(ab_low, cd_low)),
        vreinterpretq_u32_u64(vtrn2q_u64(ab_low, cd_low)),
        vreinterpretq_u32_u64(vtrn1q_u64(ab_high, cd_high)),
        vreinterpretq_u32_u64(vtrn2q_u64(ab_high, cd_high)),
    ]
}
