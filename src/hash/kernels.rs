//! The kernels: code that hashes a fixed number of streams at once with one kind of instructions.
//!
//! `unsafe` is here alone, for calls of functions that need processor features. A [`Kernel`] exists only if [`Kernel::detect`] found
//! its features.
#![allow(unsafe_code)]
#![allow(clippy::many_single_char_names)] // FIPS 180-4 has one-letter names for the words of the state.

use std::fmt;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use crate::hash::{INITIAL_STATE, Lane, SHA1_BLOCK, Sha256State, State, compress_one};

#[cfg(target_arch = "aarch64")]
mod aarch64;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "x86_64")]
mod avx512vl;
#[cfg(target_arch = "aarch64")]
mod neon;
#[cfg(target_arch = "x86_64")]
mod sha256_ni;
#[cfg(target_arch = "x86_64")]
mod sha_ni;
#[cfg(target_arch = "x86_64")]
mod sse2;
#[cfg(any(target_arch = "aarch64", target_arch = "x86_64"))]
mod vector;

/// The most streams that any kernel hashes at once.
pub const MAX_WIDTH: usize = 16;

/// Code that hashes up to [`Kernel::width`] streams at once. Its existence proves that the processor has the features it needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kernel(KernelKind);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum KernelKind {
    /// The `sha1` crate, which has its own choice of instructions for one stream.
    Single,
    #[cfg(target_arch = "x86_64")]
    ShaNi2,
    #[cfg(target_arch = "x86_64")]
    ShaNi4,
    #[cfg(target_arch = "x86_64")]
    Sse2,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512Vl,
    #[cfg(target_arch = "x86_64")]
    Avx512,
    #[cfg(target_arch = "aarch64")]
    Aarch64Sha2,
    #[cfg(target_arch = "aarch64")]
    Aarch64Sha4,
    #[cfg(target_arch = "aarch64")]
    Neon,
}

impl fmt::Display for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            KernelKind::Single => "1 stream (sha1 crate)",
            #[cfg(target_arch = "x86_64")]
            KernelKind::ShaNi2 => "2 streams (SHA-NI)",
            #[cfg(target_arch = "x86_64")]
            KernelKind::ShaNi4 => "4 streams (SHA-NI)",
            #[cfg(target_arch = "x86_64")]
            KernelKind::Sse2 => "4 streams (SSE2)",
            #[cfg(target_arch = "x86_64")]
            KernelKind::Avx2 => "8 streams (AVX2)",
            #[cfg(target_arch = "x86_64")]
            KernelKind::Avx512Vl => "8 streams (AVX-512VL)",
            #[cfg(target_arch = "x86_64")]
            KernelKind::Avx512 => "16 streams (AVX-512)",
            #[cfg(target_arch = "aarch64")]
            KernelKind::Aarch64Sha2 => "2 streams (SHA1 instructions)",
            #[cfg(target_arch = "aarch64")]
            KernelKind::Aarch64Sha4 => "4 streams (SHA1 instructions)",
            #[cfg(target_arch = "aarch64")]
            KernelKind::Neon => "4 streams (NEON)",
        })
    }
}

impl Kernel {
    /// The kernel for one stream.
    pub const SINGLE: Kernel = Kernel(KernelKind::Single);

    /// All kernels that run on this processor.
    pub fn detect() -> Vec<Kernel> {
        let mut kinds = vec![KernelKind::Single];
        #[cfg(target_arch = "x86_64")]
        {
            kinds.push(KernelKind::Sse2);
            if has_sha_instructions() {
                kinds.extend([KernelKind::ShaNi2, KernelKind::ShaNi4]);
            }
            if is_x86_feature_detected!("avx2") {
                kinds.push(KernelKind::Avx2);
                if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vl") {
                    kinds.push(KernelKind::Avx512Vl);
                }
            }
            if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bw") {
                kinds.push(KernelKind::Avx512);
            }
        }
        #[cfg(target_arch = "aarch64")]
        {
            kinds.push(KernelKind::Neon);
            if std::arch::is_aarch64_feature_detected!("sha2") {
                kinds.extend([KernelKind::Aarch64Sha2, KernelKind::Aarch64Sha4]);
            }
        }
        kinds.into_iter().map(Kernel).collect()
    }

    /// The number of streams that it hashes at once.
    pub fn width(self) -> usize {
        match self.0 {
            KernelKind::Single => 1,
            #[cfg(target_arch = "x86_64")]
            KernelKind::ShaNi2 => 2,
            #[cfg(target_arch = "x86_64")]
            KernelKind::ShaNi4 | KernelKind::Sse2 => 4,
            #[cfg(target_arch = "x86_64")]
            KernelKind::Avx2 | KernelKind::Avx512Vl => 8,
            #[cfg(target_arch = "x86_64")]
            KernelKind::Avx512 => 16,
            #[cfg(target_arch = "aarch64")]
            KernelKind::Aarch64Sha2 => 2,
            #[cfg(target_arch = "aarch64")]
            KernelKind::Aarch64Sha4 | KernelKind::Neon => 4,
        }
    }

    /// Hashes the next `count` blocks of each lane and removes them.
    ///
    /// # Panics
    /// If there is no lane, there are more than [`Kernel::width`], or one has fewer blocks.
    pub(super) fn compress(self, lanes: &mut [Lane<'_>], count: usize) {
        // SAFETY (of each call): `detect`, which alone makes such a kernel, found the processor features that the function needs.
        match self.0 {
            KernelKind::Single => run(lanes, count, |[state]: &mut [State; 1], [blocks]| compress_one(state, blocks)),
            #[cfg(target_arch = "x86_64")]
            KernelKind::ShaNi2 => run(lanes, count, |states, blocks| unsafe { sha_ni::compress_2(states, blocks) }),
            #[cfg(target_arch = "x86_64")]
            KernelKind::ShaNi4 => run(lanes, count, |states, blocks| unsafe { sha_ni::compress_4(states, blocks) }),
            #[cfg(target_arch = "x86_64")]
            KernelKind::Sse2 => run(lanes, count, |states, blocks| unsafe { sse2::compress(states, blocks) }),
            #[cfg(target_arch = "x86_64")]
            KernelKind::Avx2 => run(lanes, count, |states, blocks| unsafe { avx2::compress(states, blocks) }),
            #[cfg(target_arch = "x86_64")]
            KernelKind::Avx512Vl => run(lanes, count, |states, blocks| unsafe { avx512vl::compress(states, blocks) }),
            #[cfg(target_arch = "x86_64")]
            KernelKind::Avx512 => run(lanes, count, |states, blocks| unsafe { avx512::compress(states, blocks) }),
            #[cfg(target_arch = "aarch64")]
            KernelKind::Aarch64Sha2 => {
                run(lanes, count, |states, blocks| unsafe { aarch64::compress_2(states, blocks) })
            }
            #[cfg(target_arch = "aarch64")]
            KernelKind::Aarch64Sha4 => {
                run(lanes, count, |states, blocks| unsafe { aarch64::compress_4(states, blocks) })
            }
            #[cfg(target_arch = "aarch64")]
            KernelKind::Neon => run(lanes, count, |states, blocks| unsafe { neon::compress(states, blocks) }),
        }
    }
}

/// Hashes the blocks of two streams with SHA-256. Both must have equally many.
pub(super) fn compress_two(states: &mut [Sha256State; 2], blocks: [&[[u8; 64]]; 2]) {
    #[cfg(target_arch = "x86_64")]
    if has_sha_instructions() {
        // SAFETY: the processor has the features that the function needs.
        return unsafe { sha256_ni::compress_2(states, blocks) };
    }
    for (state, blocks) in states.iter_mut().zip(blocks) {
        sha2::block_api::compress256(state, blocks);
    }
}

/// Whether the kernels with the SHA instructions run on this processor.
#[cfg(target_arch = "x86_64")]
fn has_sha_instructions() -> bool {
    is_x86_feature_detected!("sha") && is_x86_feature_detected!("sse4.1") && is_x86_feature_detected!("ssse3")
}

/// Hands the first `count` blocks of each lane to `compress`. Empty places repeat the first lane; what they yield is discarded.
fn run<const WIDTH: usize>(
    lanes: &mut [Lane<'_>],
    count: usize,
    compress: impl Fn(&mut [State; WIDTH], [&[[u8; SHA1_BLOCK]]; WIDTH]),
) {
    assert!(lanes.len() <= WIDTH, "a kernel of {WIDTH} streams cannot take {}", lanes.len());
    let lane = |index: usize| lanes.get(index).unwrap_or(&lanes[0]);
    let mut states: [State; WIDTH] = std::array::from_fn(|index| *lane(index).state);
    compress(&mut states, std::array::from_fn(|index| &lane(index).blocks[..count]));
    for (lane, state) in lanes.iter_mut().zip(states) {
        *lane.state = state;
        lane.blocks = &lane.blocks[count..];
    }
}

/// Kernels and the time that each takes.
#[derive(Clone, Debug)]
pub struct Kernels {
    /// With the nanoseconds to hash a kibibyte of every stream.
    measured: Vec<(Kernel, f32)>,
}

impl Kernels {
    /// The kernels of this processor. Measures each of them before the first use, in less than a millisecond.
    pub fn chosen() -> &'static Kernels {
        static CHOSEN: OnceLock<Kernels> = OnceLock::new();
        CHOSEN.get_or_init(|| Kernels::with_costs(Kernel::detect().into_iter().map(|kernel| (kernel, cost(kernel)))))
    }

    /// These kernels, with the time that each takes, in any unit.
    ///
    /// # Panics
    /// If there is none.
    pub fn with_costs(costs: impl IntoIterator<Item = (Kernel, f32)>) -> Self {
        let measured: Vec<_> = costs.into_iter().collect();
        assert!(!measured.is_empty(), "no kernel");
        Kernels { measured }
    }

    /// The kernel that hashes most bytes a second if `streams` are to be hashed.
    pub fn best_for(&self, streams: usize) -> Kernel {
        let per_stream = |(kernel, cost): &(Kernel, f32)| cost / kernel.width().min(streams) as f32;
        let best = self.measured.iter().min_by(|a, b| per_stream(a).total_cmp(&per_stream(b)));
        best.map_or(Kernel::SINGLE, |(kernel, _)| *kernel)
    }

    /// The kernel that hashes most bytes a second if there are enough streams; its width is the number of streams to provide
    /// where possible.
    pub fn fastest(&self) -> Kernel {
        self.best_for(usize::MAX)
    }
}

/// The time of a kernel per kibibyte of each stream, in nanoseconds: the least of several, because other programs run too.
fn cost(kernel: Kernel) -> f32 {
    const BLOCKS: usize = 32;
    const ROUNDS: usize = 8;
    let data = [[0; SHA1_BLOCK]; BLOCKS];
    let mut states = vec![INITIAL_STATE; kernel.width()];
    let mut least = Duration::MAX;
    for _ in 0..ROUNDS {
        let mut lanes: Vec<_> = states.iter_mut().map(|state| Lane::new(state, &data)).collect();
        let start = Instant::now();
        kernel.compress(&mut lanes, BLOCKS);
        least = least.min(start.elapsed());
    }
    std::hint::black_box(&states);
    least.as_nanos() as f32 * 1024.0 / (BLOCKS * SHA1_BLOCK) as f32
}
