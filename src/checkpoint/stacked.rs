//! The stacked tensors of a layer, filled expert by expert.

use super::projections::{Format, MappedMatrix, Projections};
use crate::backend::{Backend, Cpu};
use crate::error::{Error, Result};
use crate::moe::quant::{DequantizeArgs, Granularity, QuantizeBlockArgs, ScaleFormat};
use crate::moe::weights::{ExpertMatrices, ExpertWeights};
use crate::num::{E4M3, ceil_div};
use crate::tensor::{Element, QuantMut, QuantRef, QuantTensor, Tensor, TensorMut, TensorRef};

/// Rows and columns that one scale covers.
const BLOCK: usize = 128;

/// Shape and number format of a stack of experts.
#[derive(Debug, Clone, Copy)]
pub(super) struct StackShape {
    pub num_experts: usize,
    pub width: usize,
    pub hidden: usize,
    pub format: Format,
    /// Form of scales that have to be made anew.
    pub scale_format: ScaleFormat,
}

impl StackShape {
    /// Allocates the stack and copies the experts that are given into it; the others stay zero.
    pub fn load<B: Backend>(
        self,
        backend: &B,
        experts: &[Option<Projections<'_>>],
    ) -> Result<ExpertWeights<B>> {
        let Self { width, hidden, .. } = self;
        let mut weights = ExpertWeights {
            gate_up: self.zeros(backend, [2 * width, hidden])?,
            down: self.zeros(backend, [hidden, width])?,
        };
        for (expert_idx, expert) in experts.iter().enumerate() {
            let Some(expert) = expert else { continue };
            self.load_gate_up(backend, &mut weights.gate_up, expert_idx, expert)?;
            let [values, scales] = starts(expert_idx, [hidden, width]);
            copy_matrix(backend, &mut weights.down, [values, scales], &expert.down.map()?)?;
        }
        Ok(weights)
    }

    fn zeros<B: Backend>(self, backend: &B, [n, k]: [usize; 2]) -> Result<ExpertMatrices<B>> {
        let num_experts = self.num_experts;
        let values = [num_experts, n, k];
        Ok(match self.format {
            Format::Bf16 => ExpertMatrices::Bf16(Tensor::zeros(backend, values)?),
            Format::Fp8 => ExpertMatrices::Fp8(QuantTensor {
                values: Tensor::zeros(backend, values)?,
                scales: Tensor::zeros(
                    backend,
                    [num_experts, ceil_div(n, BLOCK), ceil_div(k, BLOCK)],
                )?,
            }),
        })
    }

    /// Rows of `gate_proj`, then of `up_proj`.
    fn load_gate_up<B: Backend>(
        self,
        backend: &B,
        stack: &mut ExpertMatrices<B>,
        expert_idx: usize,
        expert: &Projections<'_>,
    ) -> Result<()> {
        let Self { width, hidden, .. } = self;
        let [values, scales] = starts(expert_idx, [2 * width, hidden]);
        let (gate, up) = (expert.gate.map()?, expert.up.map()?);
        if let ExpertMatrices::Fp8(stack) = stack
            && !width.is_multiple_of(BLOCK)
        {
            let joined = self.join(&gate, &up)?;
            write(backend, &mut stack.values, values, bytemuck::cast_slice(&joined.codes))?;
            return write(backend, &mut stack.scales, scales, bytemuck::cast_slice(&joined.scales));
        }
        copy_matrix(backend, stack, [values, scales], &gate)?;
        let up_values = values + width * hidden;
        let up_scales = scales + width / BLOCK * ceil_div(hidden, BLOCK);
        copy_matrix(backend, stack, [up_values, up_scales], &up)
    }

    /// Joins two FP8 matrices whose blocks do not line up in the stack.
    ///
    /// Block rows that lie wholly in `gate` keep their codes and scales; those from the seam on span two
    /// blocks of the file, so their values are multiplied out and quantised again.
    fn join(self, gate: &MappedMatrix, up: &MappedMatrix) -> Result<Joined> {
        let Self { width, hidden, .. } = self;
        let seam = width / BLOCK * BLOCK;
        let num_block_cols = ceil_div(hidden, BLOCK);
        let mut values = dequantize(gate, [width, hidden])?;
        values.drain(..seam * hidden);
        values.extend(dequantize(up, [width, hidden])?);

        let shape = [2 * width - seam, hidden];
        let scale_shape = [ceil_div(shape[0], BLOCK), num_block_cols];
        let mut codes = vec![E4M3::default(); shape[0] * hidden];
        let mut scales = vec![0.0; scale_shape[0] * num_block_cols];
        let out = QuantMut {
            values: TensorMut::from_slice(&mut codes, shape)?,
            scales: TensorMut::from_slice(&mut scales, scale_shape)?,
        };
        let cpu = Cpu::new();
        let x = TensorRef::<Cpu, f32, 2>::from_slice(&values, shape)?;
        let args = QuantizeBlockArgs::new(x, out, self.scale_format)?;
        cpu.quantize_block(&cpu.stream()?, args)?;

        let kept_codes: &[E4M3] = bytemuck::cast_slice(&gate.values[..seam * hidden]);
        let kept_scales = gate.scales()[..seam / BLOCK * num_block_cols].to_vec();
        Ok(Joined { codes: [kept_codes, &codes].concat(), scales: [kept_scales, scales].concat() })
    }
}

/// An FP8 matrix on the host.
struct Joined {
    codes: Vec<E4M3>,
    scales: Vec<f32>,
}

/// Multiplies codes and scales out.
fn dequantize(matrix: &MappedMatrix, [n, k]: [usize; 2]) -> Result<Vec<f32>> {
    let scales = matrix.scales();
    let x = QuantRef {
        values: TensorRef::from_slice(bytemuck::cast_slice(&matrix.values), [n, k])?,
        scales: TensorRef::from_slice(&scales, [ceil_div(n, BLOCK), ceil_div(k, BLOCK)])?,
    };
    let mut values = vec![0.0f32; n * k];
    let out = TensorMut::from_slice(&mut values, [n, k])?;
    let cpu = Cpu::new();
    cpu.dequantize(&cpu.stream()?, DequantizeArgs::new(x, out, Granularity::PerBlock)?)?;
    Ok(values)
}

/// First element of expert `expert_idx`'s values and scales in stacks of `[n, k]` matrices.
fn starts(expert_idx: usize, [n, k]: [usize; 2]) -> [usize; 2] {
    [expert_idx * n * k, expert_idx * ceil_div(n, BLOCK) * ceil_div(k, BLOCK)]
}

/// Copies a matrix as it is.
fn copy_matrix<B: Backend>(
    backend: &B,
    stack: &mut ExpertMatrices<B>,
    [values, scales]: [usize; 2],
    matrix: &MappedMatrix,
) -> Result<()> {
    match stack {
        ExpertMatrices::Bf16(stack) => write(backend, stack, values, &matrix.values),
        ExpertMatrices::Fp8(stack) => {
            write(backend, &mut stack.values, values, &matrix.values)?;
            let bytes = matrix.scales.as_deref().unwrap_or_default();
            write(backend, &mut stack.scales, scales, bytes)
        }
    }
}

/// Copies bytes into a row-major tensor, from element `start` on.
pub(super) fn write<B: Backend, T: Element, const R: usize>(
    backend: &B,
    tensor: &mut Tensor<B, T, R>,
    start: usize,
    bytes: &[u8],
) -> Result<()> {
    let needed = start * size_of::<T>() + bytes.len();
    let capacity = tensor.layout().span() * size_of::<T>();
    if needed > capacity {
        let (op, arg) = (super::OP, "tensor");
        return Err(Error::Capacity { op, arg, needed, capacity, unit: "bytes" });
    }
    let dst = tensor.view_mut().as_mut_ptr().wrapping_add(start);
    // SAFETY: the range lies within the tensor, as checked above, and the tensor is ours alone.
    unsafe { backend.write(dst.cast(), bytes) }
}
