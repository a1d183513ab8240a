//! What the processor can do at most, measured: the yardstick of every figure.

use std::hint::black_box;
use std::time::Instant;

use rayon::prelude::*;
use serde::Serialize;

use super::SimdLevel;

/// Rounds of each measurement; the fastest counts.
const NUM_ROUNDS: usize = 5;
/// Bytes that each thread reads or copies: beyond any private cache.
const NUM_BYTES: usize = 48 << 20;
/// Multiply-adds of each of a thread's chains: some milliseconds.
const NUM_FMAS: usize = 1 << 20;

/// Limits of the processor, all threads together.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Limits {
    /// Threads that measured.
    pub num_threads: usize,
    /// FP32 fused multiply-adds in registers, two operations each, at the best SIMD level, in 10^9 per
    /// second.
    pub fma_gflop_per_s: f64,
    /// Bytes read from memory, in 10^9 per second.
    pub read_gb_per_s: f64,
    /// Bytes read + written by memcpy, in 10^9 per second.
    pub memcpy_gb_per_s: f64,
}

impl Limits {
    /// Measures in a rayon thread pool, on all its threads at once; takes about half a second.
    ///
    /// # Examples
    ///
    /// ```
    /// use moekit::backend::Limits;
    /// let limits = Limits::measure();
    /// assert!(limits.fma_gflop_per_s > 0.0);
    /// ```
    pub fn measure() -> Self {
        let num_threads = rayon::current_num_threads();
        let mut source = vec![1u64; num_threads * NUM_BYTES / size_of::<u64>()];
        let mut copy = source.clone();
        Self {
            num_threads,
            fma_gflop_per_s: Self::measure_fma(),
            read_gb_per_s: fastest(|| {
                let parts = source.par_chunks(NUM_BYTES / size_of::<u64>());
                black_box(parts.map(Self::sum).reduce(|| 0, u64::wrapping_add));
                num_threads * NUM_BYTES
            }),
            memcpy_gb_per_s: fastest(|| {
                let from = source.par_chunks_mut(NUM_BYTES / size_of::<u64>());
                let to = copy.par_chunks_mut(NUM_BYTES / size_of::<u64>());
                to.zip(from).for_each(|(to, from)| to.copy_from_slice(from));
                black_box(&copy);
                2 * num_threads * NUM_BYTES
            }),
        }
    }

    /// Measures [`Limits::fma_gflop_per_s`] alone; takes some ten milliseconds.
    pub fn measure_fma() -> f64 {
        let simd = SimdLevel::detect();
        fastest(|| {
            let flops = rayon::broadcast(|_| multiply_add(simd, NUM_FMAS));
            flops.into_iter().sum::<usize>()
        })
    }

    /// Adds up values, as fast as memory delivers them.
    pub fn sum(values: &[u64]) -> u64 {
        // Several sums, so that the loads and not the additions take the time.
        let (chunks, rest) = values.as_chunks::<32>();
        let mut sums = [0u64; 32];
        for chunk in chunks {
            sums.iter_mut().zip(chunk).for_each(|(sum, value)| *sum = sum.wrapping_add(*value));
        }
        sums.iter().chain(rest).fold(0, |total, value| total.wrapping_add(*value))
    }
}

/// Units of work per nanosecond, at best; `work` returns how many it did.
fn fastest(mut work: impl FnMut() -> usize) -> f64 {
    let round = |_| {
        let start = Instant::now();
        let num_units = work();
        num_units as f64 / start.elapsed().as_secs_f64() / 1e9
    };
    (0..NUM_ROUNDS).map(round).fold(0.0, f64::max)
}

/// Runs chains of dependent multiply-adds, enough of them to fill the pipelines; returns the operations.
fn multiply_add(simd: SimdLevel, num_fmas: usize) -> usize {
    match simd {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the level was detected on this processor.
        SimdLevel::Avx512 => unsafe { x86::multiply_add_avx512(num_fmas) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        SimdLevel::Avx2 => unsafe { x86::multiply_add_avx2(num_fmas) },
        _ => multiply_add_portable(num_fmas),
    }
}

fn multiply_add_portable(num_fmas: usize) -> usize {
    const NUM_CHAINS: usize = 64;
    let mut sums = [1.0f32; NUM_CHAINS];
    let factor = black_box(0.999f32);
    for _ in 0..num_fmas / 16 {
        sums.iter_mut().for_each(|sum| *sum = *sum * factor + factor);
    }
    black_box(sums);
    2 * NUM_CHAINS * (num_fmas / 16)
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;
    use std::hint::black_box;

    /// Chains: latency times throughput (4 cycles, 2 a cycle), with some to spare.
    const NUM_CHAINS: usize = 12;

    #[target_feature(enable = "avx512f")]
    pub unsafe fn multiply_add_avx512(num_fmas: usize) -> usize {
        let factor = _mm512_set1_ps(black_box(0.999));
        let mut sums = [_mm512_set1_ps(black_box(1.0)); NUM_CHAINS];
        for _ in 0..num_fmas {
            for sum in &mut sums {
                *sum = _mm512_fmadd_ps(*sum, factor, factor);
            }
        }
        black_box(sums);
        2 * 16 * NUM_CHAINS * num_fmas
    }

    #[target_feature(enable = "avx2,fma")]
    pub unsafe fn multiply_add_avx2(num_fmas: usize) -> usize {
        let factor = _mm256_set1_ps(black_box(0.999));
        let mut sums = [_mm256_set1_ps(black_box(1.0)); NUM_CHAINS];
        for _ in 0..num_fmas {
            for sum in &mut sums {
                *sum = _mm256_fmadd_ps(*sum, factor, factor);
            }
        }
        black_box(sums);
        2 * 8 * NUM_CHAINS * num_fmas
    }
}
