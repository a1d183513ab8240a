//! Arguments of the transposing quantisation, which makes the operands of weight gradients.

use super::{GRAN_K, ScaleFormat};
use crate::error::Result;
use crate::moe::Activation;
use crate::tensor::{QuantMut, TensorRef, check};

const OP: &str = "quantize_transpose";

/// Arguments of [`Backend::quantize_transpose`](crate::Backend::quantize_transpose): each expert's
/// rows, transposed and quantised along the tokens.
///
/// Expert `g` has the rows `expert_offsets[g] .. expert_offsets[g + 1]`, `k_g` in number. Its
/// result is those rows transposed, a matrix `[num_features, k_g]` in which tokens beyond
/// `num_recv_tokens_per_expert[g]` count as zeros. The matrices lie one after another: the operand
/// of [`k_grouped_fp8_gemm_nt_contiguous`](crate::gemm::k_grouped_fp8_gemm_nt_contiguous).
///
/// # Shapes
///
/// | name | dtype | shape | layout |
/// | --- | --- | --- | --- |
/// | `x` | BF16 or FP32 | `[m, num_features]`, `m` a multiple of 128 | rows contiguous |
/// | `expert_offsets` | INT32 | `[num_groups + 1]` | ascending from 0, multiples of 128, at most `m` |
/// | `num_recv_tokens_per_expert` | INT32 | `[num_groups]` | tokens of each expert, from its first row on; more than `k_g` means `k_g` |
/// | `out.values` | E4M3 | `[num_features * m]` | group g a `[num_features, k_g]` matrix, K-major; overwritten |
/// | `out.scales` | FP32 | `[num_features * m / 128]` | group g a `[num_features, k_g / 128]` matrix, row-major; overwritten |
///
/// Rows from `expert_offsets[num_groups]` on belong to no expert; the outputs after the last group
/// hold the codes and scales of zeros.
///
/// # Numerics
///
/// The rule of [`moe::quant`](crate::moe::quant), bitwise equal on every backend.
///
/// # Errors
///
/// Those of [`QuantizeTransposeArgs::new`]; at [`Backend::check`](crate::Backend::check),
/// [`Error::Value`](crate::Error::Value) if `expert_offsets` break their rule: nothing is then
/// written.
///
/// # Source
///
/// The operands of DeepGEMM `k_grouped_fp8_gemm_nt_contiguous`, made as TileKernels
/// `per_channel_cast_and_transpose` does.
///
/// # Examples
///
/// ```
/// use moekit::moe::quant::{QuantizeTransposeArgs, ScaleFormat};
/// use moekit::tensor::{QuantMut, Tensor};
/// use moekit::{Backend, Cpu};
///
/// let cpu = Cpu::new();
/// let stream = cpu.stream()?;
/// let x = Tensor::from_host(&cpu, &[[448.0f32, 7.0]; 128].concat(), [128, 2])?;
/// let expert_offsets = Tensor::from_host(&cpu, &[0, 128], [2])?;
/// let num_recv_tokens = Tensor::from_host(&cpu, &[1], [1])?;
/// let mut values = Tensor::zeros(&cpu, [2 * 128])?;
/// let mut scales = Tensor::zeros(&cpu, [2])?;
/// let args = QuantizeTransposeArgs::new(
///     x.view(),
///     expert_offsets.view(),
///     num_recv_tokens.view(),
///     QuantMut { values: values.view_mut(), scales: scales.view_mut() },
///     ScaleFormat::Fp32,
/// )?;
/// cpu.quantize_transpose(&stream, args)?;
/// cpu.check(&stream)?;
/// assert_eq!(scales.to_host(&cpu)?, [1.0, 7.0 / 448.0]);
/// let values = values.to_host(&cpu)?;
/// assert_eq!((values[128].to_f32(), values[129].to_f32()), (448.0, 0.0));
/// # Ok::<(), moekit::Error>(())
/// ```
#[derive(Debug)]
pub struct QuantizeTransposeArgs<'a, B, T: Activation> {
    pub(crate) x: TensorRef<'a, B, T, 2>,
    pub(crate) expert_offsets: TensorRef<'a, B, i32, 1>,
    pub(crate) num_recv_tokens_per_expert: TensorRef<'a, B, i32, 1>,
    pub(crate) out: QuantMut<'a, B, 1>,
    pub(crate) format: ScaleFormat,
}

impl<'a, B, T: Activation> QuantizeTransposeArgs<'a, B, T> {
    /// Checks shapes and strides.
    ///
    /// # Errors
    ///
    /// - [`Error::Alignment`](crate::Error::Alignment) unless `m % 128 == 0`.
    /// - [`Error::Shape`](crate::Error::Shape) unless the shapes are those above.
    /// - [`Error::Stride`](crate::Error::Stride) unless the rows of `x` and all else are
    ///   contiguous.
    pub fn new(
        x: TensorRef<'a, B, T, 2>,
        expert_offsets: TensorRef<'a, B, i32, 1>,
        num_recv_tokens_per_expert: TensorRef<'a, B, i32, 1>,
        out: QuantMut<'a, B, 1>,
        format: ScaleFormat,
    ) -> Result<Self> {
        let [m, num_features] = x.shape();
        check::multiple(OP, "m", GRAN_K, m)?;
        check::contiguous_rows(OP, "x", x.layout())?;
        let [num_groups] = num_recv_tokens_per_expert.shape();
        let counts_layout = num_recv_tokens_per_expert.layout();
        check::contiguous(OP, "num_recv_tokens_per_expert", counts_layout)?;
        check::shape(OP, "expert_offsets", &[num_groups + 1], &expert_offsets.shape())?;
        check::contiguous(OP, "expert_offsets", expert_offsets.layout())?;
        check::shape(OP, "out.values", &[num_features * m], &out.values.shape())?;
        check::contiguous(OP, "out.values", out.values.layout())?;
        check::shape(OP, "out.scales", &[num_features * m / GRAN_K], &out.scales.shape())?;
        check::contiguous(OP, "out.scales", out.scales.layout())?;
        Ok(Self { x, expert_offsets, num_recv_tokens_per_expert, out, format })
    }
}
