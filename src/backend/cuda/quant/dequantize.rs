//! Codes times scales.

use crate::backend::cuda::abi::DequantizeParams;
use crate::backend::cuda::driver::Launch;
use crate::backend::cuda::params::{num_ctas, stack_in, stack_out, to_u32, type_name};
use crate::backend::cuda::{Cuda, CudaStream};
use crate::error::Result;
use crate::moe::Activation;
use crate::moe::quant::DequantizeArgs;
use crate::num::ceil_div;

const OP: &str = "dequantize";
/// Threads of a CTA, 16 elements each.
const NUM_THREADS: u32 = 256;
const ELEMENTS_PER_THREAD: usize = 16;

pub fn dequantize<T: Activation>(
    cuda: &Cuda,
    stream: &CudaStream,
    mut args: DequantizeArgs<'_, Cuda, T>,
) -> Result<()> {
    let [num_groups, m, k] = args.x.values.shape();
    let num_pieces = ceil_div(k, ELEMENTS_PER_THREAD);
    let num_units = num_groups * m * num_pieces;
    let launch = Launch::new(num_ctas(OP, "x.values", num_units, NUM_THREADS)?, NUM_THREADS);
    let [tile_rows, tile_columns] = args.granularity.tile();
    let [group_stride, row_stride, column_stride] = args.x.scales.layout().strides();
    let params = DequantizeParams {
        values: stack_in(&args.x.values),
        out: stack_out(&mut args.out),
        scales: args.x.scales.as_ptr(),
        scales_group_stride: group_stride as u64,
        scales_row_stride: row_stride as u64,
        scales_column_stride: column_stride as u64,
        num_groups: to_u32(OP, "x.values", num_groups)?,
        m: to_u32(OP, "x.values", m)?,
        k: to_u32(OP, "x.values", k)?,
        tile_rows: to_u32(OP, "granularity", tile_rows)?,
        tile_columns: to_u32(OP, "granularity", tile_columns)?,
        num_pieces: to_u32(OP, "x.values", num_pieces)?,
    };
    let kernel = cuda.kernel(OP, &format!("dequantize_{}", type_name::<T>()))?;
    // SAFETY: `DequantizeArgs` checked the extents against the tensors, which the caller keeps until
    // the stream has passed.
    unsafe { launch.enqueue(OP, &stream.driver, kernel, &params) }
}
