//! Everything a Mixture-of-Experts model needs below the model code: expert-parallel dispatch and combine,
//! FP8 grouped matrix products, checkpoints, expert load balancing, pipeline schedules.
//!
//! | to | read |
//! | --- | --- |
//! | run a whole layer | [`moe::MoeLayer`], the flow in one file; [`checkpoint::Checkpoint`] for its weights |
//! | move tokens to experts and back | [`moe::EpBuffer`] |
//! | route, quantise, activate | [`moe::gate`], [`moe::plan`], [`moe::quant`], [`moe::swiglu`] |
//! | multiply matrices | [`gemm`] |
//! | start ranks, share memory between them | [`comm::World`], [`comm::SymmetricBuffer`] |
//! | place experts and their replicas | [`eplb`] |
//! | schedule a pipeline | [`pipeline`] |
//!
//! Every stage is a method of [`Backend`] and takes one argument struct, whose constructor has checked shapes,
//! strides and constants: an error there names the operation, the argument, what was expected and what
//! came. Values are not looked at then; what is wrong with them is reported by [`Backend::check`].
//!
//! ```
//! use moekit::gemm::{GemmOut, bf16_gemm_nt};
//! use moekit::num::bf16;
//! use moekit::tensor::Tensor;
//! use moekit::{Backend, Cpu};
//!
//! let cpu = Cpu::new();
//! let stream = cpu.stream()?;
//! let a = Tensor::from_host(&cpu, &[bf16::from_f32(2.0); 3 * 16], [3, 16])?;
//! let b = Tensor::from_host(&cpu, &[bf16::from_f32(0.5); 4 * 16], [4, 16])?;
//! let mut d = Tensor::zeros(&cpu, [3, 4])?;
//! bf16_gemm_nt(&cpu, &stream, a.view(), b.view(), GemmOut::F32(d.view_mut()))?;
//! cpu.check(&stream)?;
//! assert_eq!(d.to_host(&cpu)?, [16.0; 3 * 4]);
//! # Ok::<(), moekit::Error>(())
//! ```

pub mod backend;
pub mod checkpoint;
pub mod comm;
pub mod cost;
pub mod eplb;
pub mod error;
pub mod gemm;
pub mod moe;
pub mod num;
pub mod pipeline;
mod random;
mod read_file;
pub mod tensor;
mod topology;

pub use backend::{Backend, Cpu};
pub use error::{Error, Result};
pub use topology::Topology;

/// The README's example runs.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
