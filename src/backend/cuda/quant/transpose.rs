//! The transposing quantisation.

use super::VECTORS_PER_TILE;
use crate::backend::cuda::abi::QuantizeTransposeParams;
use crate::backend::cuda::driver::Launch;
use crate::backend::cuda::params::{
    VECTOR_BYTES, num_ctas, scale_format, stack_in, to_u32, type_name,
};
use crate::backend::cuda::{Cuda, CudaStream};
use crate::error::Result;
use crate::moe::Activation;
use crate::moe::quant::{GRAN_K, QuantizeTransposeArgs};
use crate::num::ceil_div;
use crate::tensor::{Layout, TensorRef};

const NUM_THREADS: u32 = 256;

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
    // SAFETY: `QuantizeTransposeArgs` checked the extents against the tensors, which the caller keeps
    // until the stream has passed.
    unsafe { launch.enqueue(OP, &stream.driver, kernel, &params) }
}
