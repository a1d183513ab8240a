//! Seeded values of a matrix, in the number format of its tensor.

use rayon::prelude::*;
use safetensors::Dtype;

use super::layout::PlannedMatrix;
use crate::backend::{Backend, Cpu};
use crate::error::Result;
use crate::moe::quant::{QuantizeBlockArgs, ScaleFormat};
use crate::num::{E4M3, bf16, ceil_div, round_bf16};
use crate::random::{derive, derive_named, normals};
use crate::tensor::{QuantMut, TensorMut, TensorRef};

/// Rows that one scale covers.
const BLOCK: usize = 128;
/// Elements made at a time, about: 16 MB of FP32.
const PIECE_ELEMENTS: usize = 4 << 20;

/// The bytes of some rows: their values and, in FP8, their scales.
pub(super) struct Piece {
    pub values: Vec<u8>,
    pub scales: Vec<u8>,
}

/// Rows of a piece: whole blocks, so that pieces can be quantised one by one.
pub(super) fn piece_rows(matrix: &PlannedMatrix) -> usize {
    ceil_div(PIECE_ELEMENTS, matrix.num_cols * BLOCK) * BLOCK
}

/// Makes `num_rows` rows from `first_row` on; `first_row` begins a block.
pub(super) fn piece(
    matrix: &PlannedMatrix,
    seed: u64,
    [first_row, num_rows]: [usize; 2],
    scale_format: ScaleFormat,
) -> Result<Piece> {
    let num_cols = matrix.num_cols;
    let seed = derive_named(seed, matrix.values.name.as_bytes());
    let mut values = vec![0.0f32; num_rows * num_cols];
    values.par_chunks_mut(num_cols).enumerate().for_each(|(idx, row)| {
        let numbers = normals(derive(seed, (first_row + idx) as u64));
        row.iter_mut().zip(numbers).for_each(|(value, x)| *value = x * matrix.deviation);
    });
    match matrix.values.dtype {
        Dtype::F8_E4M3 => quantize(&values, [num_rows, num_cols], scale_format),
        Dtype::BF16 => {
            let rounded: Vec<bf16> = values.iter().map(|&value| round_bf16(value)).collect();
            Ok(Piece { values: bytemuck::pod_collect_to_vec(&rounded), scales: Vec::new() })
        }
        _ => Ok(Piece { values: bytemuck::pod_collect_to_vec(&values), scales: Vec::new() }),
    }
}

fn quantize(values: &[f32], shape: [usize; 2], scale_format: ScaleFormat) -> Result<Piece> {
    let scale_shape = shape.map(|extent| ceil_div(extent, BLOCK));
    let mut codes = vec![0; values.len()];
    let mut scales = vec![0.0f32; scale_shape.iter().product()];
    let out = QuantMut {
        values: TensorMut::from_slice(bytemuck::cast_slice_mut::<u8, E4M3>(&mut codes), shape)?,
        scales: TensorMut::from_slice(&mut scales, scale_shape)?,
    };
    let cpu = Cpu::new();
    let x = TensorRef::from_slice(values, shape)?;
    cpu.quantize_block(&cpu.stream()?, QuantizeBlockArgs::new(x, out, scale_format)?)?;
    Ok(Piece { values: codes, scales: bytemuck::pod_collect_to_vec(&scales) })
}
