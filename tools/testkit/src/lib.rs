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
//! | [`rng`], [`inputs`] | the same inputs from the same seed on every machine, awkward ones included |
//! | [`e4m3`], [`ue8m0`], [`bf16`] | what a code is worth, which code a value rounds to |
//! | [`matrix`], [`quant`] | f64 matrices and quantised ones |
//! | [`measure`], [`compare`], [`poison`] | how far two results are apart, and where; what was not written |
//!
//! The functions are meant for tests: on arguments that contradict each other they panic, with a
//! message that says which. The `assert_*` functions panic at their caller's line.
//!
//! # Examples
//!
//! ```
//! use moekit_testkit::{compare, inputs, quant, rng::Rng};
//!
//! let (num_tokens, hidden) = (4, 256);
//! let x = inputs::normal(&mut Rng::new(7), num_tokens * hidden, 1.0);
//! let quantised = quant::per_token(&x, [num_tokens, hidden], quant::ScaleFormat::F32);
//! let want: Vec<f64> = x.iter().map(|&x| f64::from(x)).collect();
//! compare::assert_relative_error("x", &quantised.dequantise_f32(), &want, 0.04);
//! ```

#![forbid(unsafe_code)]

pub mod bf16;
pub mod compare;
pub mod e4m3;
pub mod inputs;
pub mod matrix;
pub mod measure;
pub mod poison;
pub mod quant;
pub mod real;
pub mod rng;
pub mod ue8m0;
