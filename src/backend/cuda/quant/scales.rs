//! Transforms between layouts of scales.

use std::ffi::c_void;

use crate::backend::cuda::abi::{PackScalesParams, ScalesParams, Strides};
use crate::backend::cuda::driver::Launch;
use crate::backend::cuda::params::{num_ctas, to_u32};
use crate::backend::cuda::{Cuda, CudaStream};
use crate::error::{Error, Result};
use crate::moe::quant::{PackScalesArgs, RelayoutScalesArgs, UnpackScalesArgs};
use crate::num::ceil_div;
use crate::tensor::Layout;

/// Threads of a CTA, one scale each.
const NUM_THREADS: u32 = 256;
/// Rows, and words, of a tile that one CTA packs, one thread a word.
const TILE: usize = 32;
const PACK_THREADS: u32 = (TILE * TILE) as u32;
/// Tiles below which every scale has a 32-bit number.
const MAX_TILES: usize = 1 << 20;

pub fn relayout_scales(
    cuda: &Cuda,
    stream: &CudaStream,
    mut args: RelayoutScalesArgs<'_, Cuda>,
) -> Result<()> {
    let (from, to) = (args.scales.layout(), args.out.layout());
    let (scales, out) = (args.scales.as_ptr().cast(), args.out.as_mut_ptr());
    // SAFETY: `RelayoutScalesArgs` checked that both have this shape.
    unsafe { each_scale("relayout_scales", cuda, stream, (scales, from), (out, to), to.shape()) }
}

pub fn unpack_scales(
    cuda: &Cuda,
    stream: &CudaStream,
    mut args: UnpackScalesArgs<'_, Cuda>,
) -> Result<()> {
    let (from, to) = (args.packed.layout(), args.out.layout());
    let (packed, out) = (args.packed.as_ptr().cast(), args.out.as_mut_ptr());
    // SAFETY: `UnpackScalesArgs` checked that `packed` has a word for every four scales.
    unsafe { each_scale("unpack_scales", cuda, stream, (packed, from), (out, to), to.shape()) }
}

type Source = (*const c_void, Layout<3>);
type Destination = (*mut f32, Layout<3>);

/// Launches the kernel that is named after the operation, with a thread for every scale.
///
/// # Safety
///
/// Both tensors hold what the kernel takes for `[num_groups, num_rows, num_blocks]` scales, until
/// the stream has passed.
unsafe fn each_scale(
    op: &'static str,
    cuda: &Cuda,
    stream: &CudaStream,
    (source, from): Source,
    (destination, to): Destination,
    [num_groups, num_rows, num_blocks]: [usize; 3],
) -> Result<()> {
    let num_units = num_groups * num_rows * num_blocks;
    let launch = Launch::new(num_ctas(op, "scales", num_units, NUM_THREADS)?, NUM_THREADS);
    let params = ScalesParams {
        source,
        destination,
        source_strides: strides(from),
        destination_strides: strides(to),
        num_groups: to_u32(op, "scales", num_groups)?,
        num_rows: to_u32(op, "scales", num_rows)?,
        num_blocks: to_u32(op, "scales", num_blocks)?,
        num_units: to_u32(op, "scales", num_units)?,
    };
    let kernel = cuda.kernel(op, op)?;
    // SAFETY: the caller vouches for both tensors.
    unsafe { launch.enqueue(op, &stream.driver, kernel, &params) }
}

pub fn pack_scales(
    cuda: &Cuda,
    stream: &CudaStream,
    mut args: PackScalesArgs<'_, Cuda>,
) -> Result<()> {
    const OP: &str = "pack_scales";
    let [num_groups, num_rows, num_blocks] = args.scales.shape();
    let [_, _, num_words] = args.out.shape();
    let (num_row_tiles, num_word_tiles) = (ceil_div(num_rows, TILE), ceil_div(num_words, TILE));
    let num_tiles = num_groups * num_row_tiles * num_word_tiles;
    if num_tiles >= MAX_TILES {
        let expected = format!("less than {MAX_TILES} tiles of {TILE} rows x {TILE} words");
        return Err(Error::value(OP, "scales", expected, num_tiles));
    }
    let params = PackScalesParams {
        scales: args.scales.as_ptr(),
        out: args.out.as_mut_ptr().cast(),
        in_strides: strides(args.scales.layout()),
        out_strides: strides(args.out.layout()),
        faults: stream.fault_sink(),
        num_groups: to_u32(OP, "scales", num_groups)?,
        num_rows: to_u32(OP, "scales", num_rows)?,
        num_blocks: to_u32(OP, "scales", num_blocks)?,
        num_row_tiles: to_u32(OP, "scales", num_row_tiles)?,
        num_word_tiles: to_u32(OP, "scales", num_word_tiles)?,
        reserved: 0,
    };
    let (pack, explain) = (cuda.kernel(OP, OP)?, cuda.kernel(OP, "explain_pack_scales")?);
    let launch = Launch::new(num_ctas(OP, "scales", num_tiles, 1)?, PACK_THREADS);
    // SAFETY: `PackScalesArgs` checked the extents against the tensors, which the caller keeps until
    // the stream has passed.
    unsafe {
        launch.enqueue(OP, &stream.driver, pack, &params)?;
        Launch::new(launch.num_ctas.min(1), 1).enqueue(OP, &stream.driver, explain, &params)
    }
}

fn strides(layout: Layout<3>) -> Strides {
    let [group, row, column] = layout.strides().map(|stride| stride as u64);
    Strides { group, row, column }
}
