//! Dense products.

use super::{GemmKind, GemmOut, GemmShape, Operands};
use crate::backend::Backend;
use crate::cost::Cost;
use crate::error::Result;
use crate::num::bf16;
use crate::tensor::{QuantRef, TensorRef};

const OP: &str = "gemm_nt";

/// Arguments of [`Backend::gemm_nt`]: `d[i, j] = sum over l of a[i, l] b[j, l]`.
#[derive(Debug)]
pub struct GemmArgs<'a, B> {
    pub(crate) operands: Operands<'a, B, 2, 2>,
    pub(crate) out: GemmOut<'a, B, 2>,
}

impl<'a, B> GemmArgs<'a, B> {
    /// Checks the metadata: A `[m, k]`, B `[n, k]`, D `[m, n]`, `k` a multiple of 16.
    ///
    /// # Errors
    ///
    /// [`crate::Error::Shape`] unless the extents agree; [`crate::Error::Alignment`] unless
    /// `k % 16 == 0`; [`crate::Error::Stride`] unless rows are contiguous.
    pub fn new(operands: Operands<'a, B, 2, 2>, out: GemmOut<'a, B, 2>) -> Result<Self> {
        let (m, n, _) = operands.check(OP)?;
        out.check(OP, [m, n])?;
        Ok(Self { operands, out })
    }

    /// The product's extents.
    pub fn shape(&self) -> GemmShape {
        let ([m, k], [n, _]) = (self.operands.a_layout().shape(), self.operands.b_layout().shape());
        let (format, out) = (self.operands.format(), self.out.format());
        GemmShape { format, out, ..GemmShape::new(GemmKind::Dense, m, n, k) }
    }

    /// Arithmetic and traffic.
    pub fn cost(&self) -> Cost {
        self.shape().cost()
    }
}

/// Multiplies two FP8 matrices.
///
/// # Shapes
///
/// | name | dtype | shape | layout |
/// | --- | --- | --- | --- |
/// | `a` | E4M3, FP32 scales | `[m, k]`, `[m, ceil_div(k, 128)]` | K-major; scales of any strides |
/// | `b` | E4M3, FP32 scales | `[n, k]`, `[ceil_div(n, 128), ceil_div(k, 128)]` | K-major |
/// | `out` | BF16 or FP32 | `[m, n]` | rows contiguous |
///
/// # Numerics
///
/// See the [module](crate::gemm).
///
/// # Errors
///
/// Those of [`GemmArgs::new`].
///
/// # Source
///
/// DeepGEMM `fp8_gemm_nt`. Differs: any `m` and `n`, any `k` that is a multiple of 16.
///
/// # Examples
///
/// ```
/// use moekit::gemm::{GemmOut, fp8_gemm_nt};
/// use moekit::num::{E4M3, bf16};
/// use moekit::tensor::{QuantRef, TensorMut, TensorRef};
/// use moekit::{Backend, Cpu};
///
/// let cpu = Cpu::new();
/// let stream = cpu.stream()?;
/// let (a, b) = (vec![E4M3::from_f32(2.0); 3 * 16], vec![E4M3::from_f32(-1.0); 4 * 16]);
/// let mut d = vec![bf16::ZERO; 3 * 4];
/// fp8_gemm_nt(
///     &cpu,
///     &stream,
///     QuantRef {
///         values: TensorRef::from_slice(&a, [3, 16])?,
///         scales: TensorRef::from_slice(&[0.5, 1.0, 2.0], [3, 1])?,
///     },
///     QuantRef {
///         values: TensorRef::from_slice(&b, [4, 16])?,
///         scales: TensorRef::from_slice(&[1.0], [1, 1])?,
///     },
///     GemmOut::Bf16(TensorMut::from_slice(&mut d, [3, 4])?),
/// )?;
/// assert_eq!(d[0].to_f32(), -16.0);
/// assert_eq!(d[11].to_f32(), -64.0);
/// # Ok::<(), moekit::Error>(())
/// ```
pub fn fp8_gemm_nt<B: Backend>(
    backend: &B,
    stream: &B::Stream,
    a: QuantRef<'_, B, 2>,
    b: QuantRef<'_, B, 2>,
    out: GemmOut<'_, B, 2>,
) -> Result<()> {
    backend.gemm_nt(stream, GemmArgs::new(Operands::Fp8 { a, b }, out)?)
}

/// Multiplies two BF16 matrices; shapes, errors and source as [`fp8_gemm_nt`], without scales.
///
/// # Errors
///
/// Those of [`GemmArgs::new`].
pub fn bf16_gemm_nt<B: Backend>(
    backend: &B,
    stream: &B::Stream,
    a: TensorRef<'_, B, bf16, 2>,
    b: TensorRef<'_, B, bf16, 2>,
    out: GemmOut<'_, B, 2>,
) -> Result<()> {
    backend.gemm_nt(stream, GemmArgs::new(Operands::Bf16 { a, b }, out)?)
}
