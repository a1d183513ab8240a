//! FP32 arithmetic: operands widened to FP32, products summed in ascending K.
//!
//! `sum = 0; for k in block ascending: sum = sum + a * b; acc = fma(sum, a_factor * b_factor, acc)`
//!
//! A product of two E4M3 or two BF16 values is exact in FP32 (unless it underflows), so a fused and an
//! unfused multiply-add give the same bits, and so do all instruction sets here.

mod portable;
#[cfg(target_arch = "x86_64")]
mod simd;
#[cfg(target_arch = "x86_64")]
mod vector;
mod widen;

pub(super) use portable::PortableFp32;
#[cfg(target_arch = "x86_64")]
pub(super) use simd::SimdFp32;
#[cfg(target_arch = "x86_64")]
pub(super) use vector::{Avx2, Avx512};
pub(super) use widen::Widen;
