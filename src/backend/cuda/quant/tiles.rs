//! Per 128 x 128 block, and per 128 rows and channel.

use super::VECTORS_PER_TILE;
use crate::backend::cuda::abi::QuantizeTilesParams;
use crate::backend::cuda::driver::Launch;
use crate::backend::cuda::params::{
    VECTOR_BYTES, num_ctas, quant_out, stack_in, to_u32, type_name,
};
use crate::backend::cuda::{Cuda, CudaStream};
use crate::error::Result;
use crate::moe::Activation;
use crate::moe::quant::{GRAN_K, QuantizeBlockArgs, QuantizeChannelArgs, ScaleFormat};
use crate::num::ceil_div;
use crate::tensor::{QuantMut, TensorRef};

/// Rows of every tile.
const TILE_ROWS: usize = 128;
const BLOCK_THREADS: u32 = 512;
const CHANNEL_THREADS: u32 = 256;

pub fn quantize_block<T: Activation>(
    cuda: &Cuda,
    stream: &CudaStream,
    mut args: QuantizeBlockArgs<'_, Cuda, T>,
) -> Result<()> {
    const OP: &str = "quantize_block";
    let params = params(OP, &args.x, &mut args.out, args.format, GRAN_K)?;
    enqueue::<T>(OP, cuda, stream, &params, BLOCK_THREADS)
}

pub fn quantize_channel<T: Activation>(
    cuda: &Cuda,
    stream: &CudaStream,
    mut args: QuantizeChannelArgs<'_, Cuda, T>,
) -> Result<()> {
    const OP: &str = "quantize_channel";
    let tile_columns = VECTORS_PER_TILE * VECTOR_BYTES / size_of::<T>();
    let params = params(OP, &args.x, &mut args.out, args.format, tile_columns)?;
    enqueue::<T>(OP, cuda, stream, &params, CHANNEL_THREADS)
}

fn params<T: Activation>(
    op: &'static str,
    x: &TensorRef<'_, Cuda, T, 3>,
    out: &mut QuantMut<'_, Cuda, 3>,
    format: ScaleFormat,
    tile_columns: usize,
) -> Result<QuantizeTilesParams> {
    let [num_groups, m, n] = x.shape();
    Ok(QuantizeTilesParams {
        x: stack_in(x),
        out: quant_out(out, format),
        num_groups: to_u32(op, "x", num_groups)?,
        m: to_u32(op, "x", m)?,
        n: to_u32(op, "x", n)?,
        num_row_tiles: to_u32(op, "x", ceil_div(m, TILE_ROWS))?,
        num_column_tiles: to_u32(op, "x", ceil_div(n, tile_columns))?,
        reserved: 0,
    })
}

/// One CTA a tile; the kernel is named after the operation.
fn enqueue<T: Activation>(
    op: &'static str,
    cuda: &Cuda,
    stream: &CudaStream,
    params: &QuantizeTilesParams,
    num_threads: u32,
) -> Result<()> {
    let extents = [params.num_groups, params.num_row_tiles, params.num_column_tiles];
    let num_tiles = extents.iter().map(|&extent| extent as usize).product();
    let launch = Launch::new(num_ctas(op, "x", num_tiles, 1)?, num_threads);
    let kernel = cuda.kernel(op, &format!("{op}_{}", type_name::<T>()))?;
    // SAFETY: the arguments' constructor checked the extents against the tensors, which the caller
    // keeps until the stream has passed.
    unsafe { launch.enqueue(op, &stream.driver, kernel, params) }
}
