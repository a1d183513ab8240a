//! Seeded inputs, f64 oracles, comparisons and poison for moekit's tests.
//!
//! An oracle is worth having only while it is independent. This crate therefore does not depend on
//! moekit and shares no code with it: every format, rounding and formula is written again here,
//! from its published definition, in the plainest form (exhaustive search rather than bit tricks,
//! f64 loops rather than tiles). It takes and returns slices and `Vec`s: E4M3 codes are `u8`, BF16
//! is `half::bf16` (storage only), indices are `i32`.
//!
//! | module | what it answers |
//! | --- | --- |
//! | [`rng`], [`inputs`] | the same inputs from a seed on every machine, awkward ones too |
//! | [`e4m3`], [`ue8m0`], [`bf16`] | what a code is worth, which code a value rounds to |
//! | [`real`], [`element`] | which element types the oracles and comparisons take |
//! | [`matrix`], [`quant`], [`layout`] | f64 matrices, quantised ones, their storage orders |
//! | [`gate`], [`plan`] | which experts a token takes, where its rows land |
//! | [`gemm`], [`swiglu`], [`combine`], [`moe`] | what the stages and the whole layer compute |
//! | [`measure`], [`compare`], [`poison`] | how far results are apart, where; what was not written |
//!
//! The functions are meant for tests: on arguments that contradict each other they panic, with a
//! message that says which. The `assert_*` functions panic at their caller's line.
//!
//! # Examples
//!
//! ```
//! use moekit_testkit::{compare, gemm, inputs, quant, rng::Rng};
//! use moekit_testkit::quant::ScaleFormat;
//!
//! let mut rng = Rng::new(7);
//! let (m, n, k) = (4, 256, 384);
//! let x = inputs::normal(&mut rng, m * k, 1.0);
//! let a = quant::per_token(&x, [m, k], ScaleFormat::F32);
//! let b = quant::per_block(&inputs::weights(&mut rng, [n, k]), [n, k], ScaleFormat::F32);
//! let want = gemm::nt(&a.dequantise(), &b.dequantise());
//!
//! // Stands for the product under test: here the oracle's, rounded to FP32.
//! let got = want.to_f32();
//! compare::assert_relative_error("d", &got, &want.values, 1e-6);
//! ```

#![forbid(unsafe_code)]

pub mod bf16;
pub mod combine;
pub mod compare;
pub mod e4m3;
pub mod element;
pub mod gate;
pub mod gemm;
pub mod inputs;
pub mod layout;
pub mod matrix;
pub mod measure;
pub mod moe;
pub mod plan;
pub mod poison;
pub mod quant;
pub mod real;
pub mod rng;
pub mod swiglu;
pub mod ue8m0;
