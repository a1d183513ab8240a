//! Arguments of the transposing quantisation, which makes the operands of weight gradients.

use super::{GRAN_K, ScaleFormat};
use crate::error::Result;
use crate::moe::Activation;
use crate::moe::check::Checker;
use crate::num::E4M3;
use crate::tensor::{TensorMut, TensorRef};

/// Arguments of [`Backend::quantize_transpose`](crate::Backend::quantize_transpose): each expert's rows,
/// transposed and quantised along the tokens.
///
/// With `o = expert_offsets[g]` and `k_g = expert_offsets[g + 1] - o`, expert `g` gives the matrix
/// `[num_features, k_g]` of its rows transposed, tokens from `num_rows[g]` on counted as zeros. It lies
/// at `values[num_features * o ..]`, K-major; the scales of its tokens `128 b ..` are the column
/// `o / 128 + b`. These are A and B of the k-grouped product.
///
/// # Shapes
///
/// | name | dtype | shape | layout |
/// | --- | --- | --- | --- |
/// | `x` | BF16 or FP32 | `[m, num_features]`, `m` a multiple of 128 | rows contiguous |
/// | `expert_offsets` | INT32 | `[num_groups + 1]` | ascending from 0, multiples of 128, at most `m` |
/// | `num_rows` | INT32 | `[num_groups]` | tokens in each segment, from its first row on |
/// | `values` | E4M3 | `[num_features * m]` | contiguous, overwritten |
/// | `scales` | FP32 | `[num_features, m / 128]` | any strides, overwritten |
///
/// Rows from `expert_offsets[num_groups]` on belong to no expert: their part of `values`, from
/// `num_features * expert_offsets[num_groups]` on, and their columns of `scales` are those of zeros.
///
/// # Numerics
///
/// The rule of [`moe::quant`](crate::moe::quant), bitwise equal on every backend.
///
/// # Errors
///
/// At [`Backend::check`](crate::Backend::check): [`Error::Value`](crate::Error::Value) when
/// `expert_offsets` break their rule; the outputs are then not written.
///
/// # Source
///
/// DeepGEMM `k_grouped_fp8_gemm_nt_contiguous` (scales `[sum_k / 128, num_features]`, which is the MN-major
/// order here); TileKernels `per_channel_cast_and_transpose`.
///
/// # Examples
///
/// ```
/// use moekit::moe::quant::{QuantizeTransposeArgs, ScaleFormat};
/// use moekit::tensor::{ScaleLayout, Tensor};
/// use moekit::{Backend, Cpu};
///
/// let cpu = Cpu::new();
/// let stream = cpu.stream()?;
/// let x = Tensor::from_host(&cpu, &[[448.0f32, 7.0]; 128].concat(), [128, 2])?;
/// let expert_offsets = Tensor::from_host(&cpu, &[0, 128], [2])?;
/// let num_rows = Tensor::from_host(&cpu, &[1], [1])?;
/// let mut values = Tensor::zeros(&cpu, [2 * 128])?;
/// let mut scales = Tensor::zeros_with_layout(&cpu, ScaleLayout::MnMajor.layout([2, 1]))?;
/// let args = QuantizeTransposeArgs::new(
///     x.view(),
///     [expert_offsets.view(), num_rows.view()],
///     values.view_mut(),
///     scales.view_mut(),
///     ScaleFormat::Fp32,
/// )?;
/// cpu.quantize_transpose(&stream, args)?;
/// cpu.check(&stream)?;
/// assert_eq!(scales.to_host(&cpu)?[..2], [1.0, 7.0 / 448.0]);
/// let values = values.to_host(&cpu)?;
/// assert_eq!((values[128].to_f32(), values[129].to_f32()), (448.0, 0.0));
/// # Ok::<(), moekit::Error>(())
/// ```
#[derive(Debug)]
pub struct QuantizeTransposeArgs<'a, B, T: Activation> {
    pub(crate) x: TensorRef<'a, B, T, 2>,
    pub(crate) expert_offsets: TensorRef<'a, B, i32, 1>,
    pub(crate) num_rows: TensorRef<'a, B, i32, 1>,
    pub(crate) values: TensorMut<'a, B, E4M3, 1>,
    pub(crate) scales: TensorMut<'a, B, f32, 2>,
    pub(crate) format: ScaleFormat,
}

impl<'a, B, T: Activation> QuantizeTransposeArgs<'a, B, T> {
    /// Checks shapes and strides.
    ///
    /// # Errors
    ///
    /// - [`Error::Alignment`](crate::Error::Alignment) unless `m % 128 == 0`.
    /// - [`Error::Shape`](crate::Error::Shape) unless the shapes are those above.
    /// - [`Error::Stride`](crate::Error::Stride) unless rows are contiguous and no two output elements
    ///   share an address.
    pub fn new(
        x: TensorRef<'a, B, T, 2>,
        [expert_offsets, num_rows]: [TensorRef<'a, B, i32, 1>; 2],
        values: TensorMut<'a, B, E4M3, 1>,
        scales: TensorMut<'a, B, f32, 2>,
        format: ScaleFormat,
    ) -> Result<Self> {
        let check = Checker("quantize_transpose");
        let [m, num_features] = x.shape();
        check.multiple("m", m, GRAN_K)?;
        check.contiguous_rows("x", x.layout())?;
        let [num_groups] = num_rows.shape();
        check.contiguous("num_rows", num_rows.layout())?;
        check.shape("expert_offsets", &expert_offsets.shape(), &[num_groups + 1])?;
        check.contiguous("expert_offsets", expert_offsets.layout())?;
        check.shape("values", &values.shape(), &[num_features * m])?;
        check.contiguous("values", values.layout())?;
        check.shape("scales", &scales.shape(), &[num_features, m / GRAN_K])?;
        check.no_overlap("scales", scales.layout())?;
        Ok(Self { x, expert_offsets, num_rows, values, scales, format })
    }
}
