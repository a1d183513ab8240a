//! SwiGLU: what the kernels of `csrc/kernels/swiglu` are launched with.

use super::abi::{SwigluBackwardParams, SwigluInput, SwigluParams, SwigluQuantizeParams};
use super::driver::Launch;
use super::params::{
    VECTOR_BYTES, num_ctas, quant_out, rows, stack_in, stack_out, to_u32, type_name,
};
use super::{Cuda, CudaStream};
use crate::error::Result;
use crate::moe::Activation;
use crate::moe::quant::GRAN_K;
use crate::moe::swiglu::{CheckedInput, SwigluArgs, SwigluBackwardArgs, SwigluQuantizeArgs};
use crate::num::ceil_div;
use crate::tensor::TensorRef;

/// Threads of a CTA, 16 activations each.
const NUM_THREADS: u32 = 256;
const ACTIVATIONS_PER_THREAD: usize = 16;
/// 128-element blocks of a CTA that quantises: eight lanes each.
const BLOCKS_PER_CTA: u32 = NUM_THREADS / 8;
/// Neighbouring columns of a thread that computes gradients; a CTA has a row.
const COLUMNS_PER_THREAD: usize = 8;

pub fn forward<T: Activation, U: Activation>(
    cuda: &Cuda,
    stream: &CudaStream,
    mut args: SwigluArgs<'_, Cuda, T, U>,
) -> Result<()> {
    const OP: &str = "swiglu";
    let [num_groups, m, half] = args.out.shape();
    let num_pieces = ceil_div(half, ACTIVATIONS_PER_THREAD);
    let num_units = num_groups * m * num_pieces;
    let launch = Launch::new(num_ctas(OP, "gate_up", num_units, NUM_THREADS)?, NUM_THREADS);
    let params = SwigluParams {
        input: input(OP, &args.input)?,
        out: stack_out(&mut args.out),
        num_pieces: to_u32(OP, "gate_up", num_pieces)?,
        reserved: 0,
    };
    let name = format!("swiglu_{}_{}", type_name::<T>(), type_name::<U>());
    let kernel = cuda.kernel(OP, &name)?;
    // SAFETY: `SwigluArgs` checked the extents against the tensors, which the caller keeps until
    // the stream has passed.
    unsafe { launch.enqueue(OP, &stream.driver, kernel, &params) }
}

pub fn forward_quantized<T: Activation>(
    cuda: &Cuda,
    stream: &CudaStream,
    mut args: SwigluQuantizeArgs<'_, Cuda, T>,
) -> Result<()> {
    const OP: &str = "swiglu_quantize";
    let [num_groups, m, half] = args.out.values.shape();
    let num_blocks = ceil_div(half, GRAN_K);
    let num_units = num_groups * m * num_blocks;
    let launch = Launch::new(num_ctas(OP, "gate_up", num_units, BLOCKS_PER_CTA)?, NUM_THREADS);
    let params = SwigluQuantizeParams {
        input: input(OP, &args.input)?,
        out: quant_out(&mut args.out, args.format),
        num_blocks: to_u32(OP, "gate_up", num_blocks)?,
        reserved: 0,
    };
    let kernel = cuda.kernel(OP, &format!("swiglu_quantize_{}", type_name::<T>()))?;
    // SAFETY: as above.
    unsafe { launch.enqueue(OP, &stream.driver, kernel, &params) }
}

pub fn backward<T: Activation, D: Activation>(
    cuda: &Cuda,
    stream: &CudaStream,
    mut args: SwigluBackwardArgs<'_, Cuda, T, D>,
) -> Result<()> {
    const OP: &str = "swiglu_backward";
    let [num_groups, m, half] = args.grad_out.shape();
    let num_threads = ceil_div(half, COLUMNS_PER_THREAD).next_multiple_of(32) as u32;
    let num_ctas = num_ctas(OP, "grad_out", num_groups * m, 1)?;
    let launch = Launch::new(num_ctas, num_threads.clamp(32, NUM_THREADS));
    let weights = args.grad_row_weights.as_mut();
    let params = SwigluBackwardParams {
        input: input(OP, &args.input)?,
        grad_out: stack_in(&args.grad_out),
        grad_gate_up: stack_out(&mut args.grad_gate_up),
        grad_row_weights: weights.map_or(std::ptr::null_mut(), |it| it.as_mut_ptr()),
    };
    let name = format!("swiglu_backward_{}_{}", type_name::<T>(), type_name::<D>());
    let kernel = cuda.kernel(OP, &name)?;
    // SAFETY: as above.
    unsafe { launch.enqueue(OP, &stream.driver, kernel, &params) }
}

fn input<T: Activation>(
    op: &'static str,
    input: &CheckedInput<'_, Cuda, T>,
) -> Result<SwigluInput> {
    let [num_groups, m, columns] = input.gate_up.shape();
    let half = columns / 2;
    let gate_up = stack_in(&input.gate_up);
    let starts_aligned = (half * size_of::<T>()).is_multiple_of(VECTOR_BYTES);
    Ok(SwigluInput {
        is_half_aligned: u32::from(starts_aligned) & gate_up.is_aligned,
        gate_up,
        row_weights: input.row_weights.as_ref().map_or(std::ptr::null(), TensorRef::as_ptr),
        rows: rows(op, &input.rows)?,
        limit: input.limit,
        num_groups: to_u32(op, "gate_up", num_groups)?,
        m: to_u32(op, "gate_up", m)?,
        half: to_u32(op, "gate_up", half)?,
        reserved: 0,
    })
}
