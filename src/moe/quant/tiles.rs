//! Arguments of the per-block and per-channel quantisations.

use super::{Granularity, K_ALIGNMENT, ScaleFormat};
use crate::error::Result;
use crate::moe::Activation;
use crate::moe::stack::{stacked_mut, stacked_ref, with_matrix};
use crate::tensor::{QuantMut, TensorRef, check};

/// Arguments of [`Backend::quantize_block`](crate::Backend::quantize_block): one scale per 128 x
/// 128 block.
///
/// # Shapes
///
/// `num_groups` is there for stacks alone (`R = 3`, the weights of several experts).
///
/// | name | dtype | shape | layout |
/// | --- | --- | --- | --- |
/// | `x` | BF16 or FP32 | `[num_groups, n, k]` | rows contiguous |
/// | `out.values` | E4M3 | `[num_groups, n, k]` | rows contiguous, overwritten |
/// | `out.scales` | FP32 | `[num_groups, ceil_div(n, 128), ceil_div(k, 128)]` | any strides, overwritten |
///
/// # Numerics
///
/// The rule of [`moe::quant`](crate::moe::quant), bitwise equal on every backend. The last block of
/// a row or column covers what is left.
///
/// # Source
///
/// DeepSeek-V3 technical report, section 3.3.2; DeepGEMM `per_block_cast_to_fp8`.
///
/// # Examples
///
/// ```
/// use moekit::moe::quant::{QuantizeBlockArgs, ScaleFormat};
/// use moekit::tensor::{QuantTensor, Tensor};
/// use moekit::{Backend, Cpu};
///
/// let cpu = Cpu::new();
/// let weight = Tensor::from_host(&cpu, &[3.0f32; 130 * 16], [130, 16])?;
/// let mut out = QuantTensor::zeros_per_block(&cpu, [130, 16])?;
/// let args = QuantizeBlockArgs::new(weight.view(), out.view_mut(), ScaleFormat::Ue8m0)?;
/// cpu.quantize_block(&cpu.stream()?, args)?;
/// assert_eq!(out.scales.to_host(&cpu)?, [1.0 / 128.0; 2]);
/// # Ok::<(), moekit::Error>(())
/// ```
#[derive(Debug)]
pub struct QuantizeBlockArgs<'a, B, T: Activation> {
    pub(crate) x: TensorRef<'a, B, T, 3>,
    pub(crate) out: QuantMut<'a, B, 3>,
    pub(crate) format: ScaleFormat,
}

impl<'a, B, T: Activation> QuantizeBlockArgs<'a, B, T> {
    /// Checks shapes and strides; `R` is 2 for a matrix, 3 for a stack of them.
    ///
    /// # Errors
    ///
    /// - [`Error::Alignment`](crate::Error::Alignment) unless `k % 16 == 0`.
    /// - [`Error::Shape`](crate::Error::Shape) unless outputs have the shapes above.
    /// - [`Error::Stride`](crate::Error::Stride) unless rows are contiguous and no two output
    ///   elements share an address.
    pub fn new<const R: usize>(
        x: TensorRef<'a, B, T, R>,
        out: QuantMut<'a, B, R>,
        format: ScaleFormat,
    ) -> Result<Self> {
        const OP: &str = "quantize_block";
        check::multiple(OP, "k", K_ALIGNMENT, x.shape()[R - 1])?;
        let (x, out) = checked(OP, x, out, Granularity::PerBlock)?;
        Ok(Self { x, out, format })
    }
}

/// Arguments of [`Backend::quantize_channel`](crate::Backend::quantize_channel): one scale per 128
/// rows and channel.
///
/// # Shapes
///
/// | name | dtype | shape | layout |
/// | --- | --- | --- | --- |
/// | `x` | BF16 or FP32 | `[m, n]`, `m` a multiple of 128 | rows contiguous |
/// | `out.values` | E4M3 | `[m, n]` | rows contiguous, overwritten |
/// | `out.scales` | FP32 | `[m / 128, n]` | any strides, overwritten |
///
/// # Numerics
///
/// The rule of [`moe::quant`](crate::moe::quant), bitwise equal on every backend.
///
/// # Source
///
/// DeepGEMM `per_channel_cast_to_fp8`.
///
/// # Examples
///
/// ```
/// use moekit::moe::quant::{QuantizeChannelArgs, ScaleFormat};
/// use moekit::tensor::{QuantMut, Tensor};
/// use moekit::{Backend, Cpu};
///
/// let cpu = Cpu::new();
/// let x = Tensor::from_host(&cpu, &[[448.0f32, 7.0]; 128].concat(), [128, 2])?;
/// let mut values = Tensor::zeros(&cpu, [128, 2])?;
/// let mut scales = Tensor::zeros(&cpu, [1, 2])?;
/// let out = QuantMut { values: values.view_mut(), scales: scales.view_mut() };
/// let args = QuantizeChannelArgs::new(x.view(), out, ScaleFormat::Fp32)?;
/// cpu.quantize_channel(&cpu.stream()?, args)?;
/// assert_eq!(scales.to_host(&cpu)?, [1.0, 7.0 / 448.0]);
/// # Ok::<(), moekit::Error>(())
/// ```
#[derive(Debug)]
pub struct QuantizeChannelArgs<'a, B, T: Activation> {
    pub(crate) x: TensorRef<'a, B, T, 3>,
    pub(crate) out: QuantMut<'a, B, 3>,
    pub(crate) format: ScaleFormat,
}

impl<'a, B, T: Activation> QuantizeChannelArgs<'a, B, T> {
    /// Checks shapes and strides.
    ///
    /// # Errors
    ///
    /// - [`Error::Alignment`](crate::Error::Alignment) unless `m % 128 == 0`.
    /// - [`Error::Shape`](crate::Error::Shape) unless outputs have the shapes above.
    /// - [`Error::Stride`](crate::Error::Stride) unless rows are contiguous and no two output
    ///   elements share an address.
    pub fn new(
        x: TensorRef<'a, B, T, 2>,
        out: QuantMut<'a, B, 2>,
        format: ScaleFormat,
    ) -> Result<Self> {
        const OP: &str = "quantize_channel";
        let [m, _] = x.shape();
        check::multiple(OP, "m", 128, m)?;
        let (x, out) = checked(OP, x, out, Granularity::PerChannel)?;
        Ok(Self { x, out, format })
    }
}

type Checked<'a, B, T> = (TensorRef<'a, B, T, 3>, QuantMut<'a, B, 3>);

fn checked<'a, B, T: Activation, const R: usize>(
    op: &'static str,
    x: TensorRef<'a, B, T, R>,
    out: QuantMut<'a, B, R>,
    granularity: Granularity,
) -> Result<Checked<'a, B, T>> {
    let shape = x.shape();
    let scale_shape = granularity.scale_shape([shape[R - 2], shape[R - 1]]);
    check::contiguous_rows(op, "x", x.layout())?;
    check::shape(op, "out.values", &shape, &out.values.shape())?;
    check::contiguous_rows(op, "out.values", out.values.layout())?;
    check::shape(op, "out.scales", &with_matrix(shape, scale_shape), &out.scales.shape())?;
    check::no_overlap(op, "out.scales", out.scales.layout())?;
    let (values, scales) = (stacked_mut(out.values), stacked_mut(out.scales));
    Ok((stacked_ref(x), QuantMut { values, scales }))
}
