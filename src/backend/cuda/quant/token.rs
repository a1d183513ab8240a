//! Per token x 128 of K.

use crate::backend::cuda::abi::QuantizeParams;
use crate::backend::cuda::driver::Launch;
use crate::backend::cuda::params::{num_ctas, quant_out, rows, stack_in, to_u32, type_name};
use crate::backend::cuda::{Cuda, CudaStream};
use crate::error::Result;
use crate::moe::Activation;
use crate::moe::quant::{GRAN_K, QuantizeArgs};
use crate::num::ceil_div;

/// Threads of a CTA, and the 128-element blocks that they have: eight lanes each.
const NUM_THREADS: u32 = 256;
const BLOCKS_PER_CTA: u32 = NUM_THREADS / 8;

pub fn quantize<T: Activation>(
    cuda: &Cuda,
    stream: &CudaStream,
    mut args: QuantizeArgs<'_, Cuda, T>,
) -> Result<()> {
    const OP: &str = "quantize";
    let [num_groups, m, k] = args.x.shape();
    let num_blocks = ceil_div(k, GRAN_K);
    let launch =
        Launch::new(num_ctas(OP, "x", num_groups * m * num_blocks, BLOCKS_PER_CTA)?, NUM_THREADS);
    let params = QuantizeParams {
        x: stack_in(&args.x),
        out: quant_out(&mut args.out, args.format),
        rows: rows(OP, &args.rows)?,
        num_groups: to_u32(OP, "x", num_groups)?,
        m: to_u32(OP, "x", m)?,
        k: to_u32(OP, "x", k)?,
        num_blocks: to_u32(OP, "x", num_blocks)?,
    };
    let kernel = cuda.kernel(OP, &format!("quantize_{}", type_name::<T>()))?;
    // SAFETY: `QuantizeArgs` checked the extents against the tensors, which the caller keeps until
    // the stream has passed.
    unsafe { launch.enqueue(OP, &stream.driver, kernel, &params) }
}
