//! Matrix products `D = A Bᵀ` ("nt": both operands K-major) in FP8 and BF16: dense, grouped along M
//! in the contiguous or masked layout, and grouped along K for weight gradients. The experts' first product in FP8
//! also comes with its activation ([`SwigluOut`]).
//!
//! # Numerics
//!
//! **FP8**: products are summed over 128 values of K, the sum is scaled by `sfa * sfb` in FP32 and
//! added in FP32, blocks in ascending K. Relative Frobenius error against f64 on the same codes: at most
//! 1e-3 before output rounding (2e-5 on the cpu), 2e-3 on a BF16 D. A NaN code makes its row or
//! column NaN. **BF16**: FP32 products and sums. On every backend a row's bits do not depend on
//! other rows, on the layout or on the tile. One named option gives that up: where the CUDA backend may cut K
//! ([`Cuda::with_max_split_k`](crate::backend::cuda::Cuda::with_max_split_k)), FP32 sums of 2, 4 or 8 parts of K are added in
//! ascending K, and a row's bits depend on the number of parts.
//!
//! Rows of grouped products can be weighted ([`GroupedGemmArgs::with_row_weights`]): the FP32 sum times the weight, in
//! FP32, and then what becomes of sums without one: a rounding to BF16, none, or the addition to D.
//!
//! # Errors
//!
//! On the CUDA backend [`Error::Alignment`](crate::Error::Alignment) besides, where a row of A or B does not start
//! at a multiple of 16 bytes: TMA reads no others.
//!
//! # Source
//!
//! DeepGEMM, README "Dense GEMMs" and "Grouped GEMMs"; recipe (1, 128, 128).

mod dense;
mod grouped;
mod k_grouped;
mod masked;
mod operands;
mod shape;
mod swiglu;

pub use dense::{GemmArgs, bf16_gemm_nt, fp8_gemm_nt};
pub use grouped::{
    GroupRows, GroupedGemmArgs, m_grouped_bf16_gemm_nt_contiguous, m_grouped_fp8_gemm_nt_contiguous,
};
pub use k_grouped::{
    KGroupedGemmArgs, KGroupedOperands, k_grouped_bf16_gemm_nt_contiguous,
    k_grouped_fp8_gemm_nt_contiguous,
};
pub use masked::{
    MaskedGemmArgs, MaskedRows, m_grouped_bf16_gemm_nt_masked, m_grouped_fp8_gemm_nt_masked,
};
pub use operands::{GemmOut, Operands};
pub use shape::{GemmFormat, GemmKind, GemmOutFormat, GemmShape};
pub use swiglu::{
    GroupedSwigluArgs, MaskedSwigluArgs, SwigluOut, m_grouped_fp8_gemm_swiglu_contiguous,
    m_grouped_fp8_gemm_swiglu_masked,
};
