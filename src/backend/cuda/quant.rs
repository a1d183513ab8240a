//! Quantisation: what the kernels of `csrc/kernels/quant` are launched with.

use super::abi::{QuantizeParams, QuantizeTransposeParams};
use super::driver::Launch;
use super::params::{
    VECTOR_BYTES, num_ctas, quant_out, rows, scale_format, stack_in, to_u32, type_name,
};
use super::{Cuda, CudaStream};
use crate::error::Result;
use crate::moe::Activation;
use crate::moe::quant::{GRAN_K, QuantizeArgs, QuantizeTransposeArgs};
use crate::num::ceil_div;
use crate::tensor::Layout;
use crate::tensor::TensorRef;

/// Threads of a CTA, and the 128-element blocks that they have: eight lanes each.
const NUM_THREADS: u32 = 256;
const BLOCKS_PER_CTA: u32 = NUM_THREADS / 8;
/// 16-byte vectors of features that a CTA of the transposing kernel has.
const VECTORS_PER_TILE: usize = 8;

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

pub fn quantize_transpose<T: Activation>(
    cuda: &Cuda,
    stream: &CudaStream,
    mut args: QuantizeTransposeArgs<'_, Cuda, T>,
) -> Result<()> {
    const OP: &str = "quantize_transpose";
    let [m, num_features] = args.x.shape();
    let tile_features = VECTORS_PER_TILE * VECTOR_BYTES / size_of::<T>();
    let num_tiles = ceil_div(num_features, tile_features).max(1);
    // The offsets are checked even where there is nothing to write.
    let num_units = (ceil_div(m, GRAN_K) * num_tiles).max(1);
    let [num_groups] = args.num_recv_tokens_per_expert.shape();
    let values = args.out.values.as_mut_ptr();
    let layout = args.x.layout();
    let [row_stride, col_stride] = layout.strides();
    let stacked = Layout::with_strides([1, m, num_features], [0, row_stride, col_stride]);
    // SAFETY: the same elements, with a dimension of extent 1 in front.
    let x = unsafe { TensorRef::<Cuda, T, 3>::from_raw(args.x.as_ptr(), stacked) };
    let params = QuantizeTransposeParams {
        x: stack_in(&x),
        expert_offsets: args.expert_offsets.as_ptr(),
        num_recv_tokens_per_expert: args.num_recv_tokens_per_expert.as_ptr(),
        values: values.cast(),
        scales: args.out.scales.as_mut_ptr(),
        faults: stream.fault_sink(),
        m: to_u32(OP, "x", m)?,
        num_features: to_u32(OP, "x", num_features)?,
        num_groups: to_u32(OP, "num_recv_tokens_per_expert", num_groups)?,
        num_feature_tiles: to_u32(OP, "x", num_tiles)?,
        format: scale_format(args.format),
        is_aligned: u32::from((values as usize).is_multiple_of(VECTOR_BYTES)),
    };
    let launch = Launch::new(num_ctas(OP, "x", num_units, 1)?, NUM_THREADS);
    let kernel = cuda.kernel(OP, &format!("quantize_transpose_{}", type_name::<T>()))?;
    // SAFETY: as above.
    unsafe { launch.enqueue(OP, &stream.driver, kernel, &params) }
}
