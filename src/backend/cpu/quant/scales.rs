//! Transforms between layouts of scales.

use crate::backend::cpu::{Cpu, CpuStream};
use crate::error::Error;
use crate::moe::quant::{PackScalesArgs, RelayoutScalesArgs, UnpackScalesArgs};
use crate::num::Ue8m0;

pub(in crate::backend::cpu) fn relayout_scales(mut args: RelayoutScalesArgs<'_, Cpu>) {
    let (from, to) = (args.scales.layout(), args.out.layout());
    let (scales, out) = (args.scales.as_span(), args.out.as_mut_span());
    for_each_idx(from.shape(), |idx| out[to.offset(idx)] = scales[from.offset(idx)]);
}

pub(in crate::backend::cpu) fn pack_scales(stream: &CpuStream, mut args: PackScalesArgs<'_, Cpu>) {
    let (from, to) = (args.scales.layout(), args.out.layout());
    let (scales, out) = (args.scales.as_span(), args.out.as_mut_span());
    let [_, _, num_blocks] = from.shape();
    let mut fault = None;
    for_each_idx(to.shape(), |[group, row, word]| {
        let mut codes = [0; 4];
        for (code, block) in codes.iter_mut().zip(4 * word..num_blocks) {
            let sf = scales[from.offset([group, row, block])];
            let rounded = Ue8m0::from_f32_ceil(sf);
            if rounded.to_f32() != sf {
                fault.get_or_insert((sf, [group, row, block]));
            }
            *code = rounded.0;
        }
        out[to.offset([group, row, word])] = i32::from_le_bytes(codes);
    });
    if let Some((sf, [group, row, block])) = fault {
        let got = format!("{sf} in group {group}, row {row}, block {block}");
        stream.report(Error::value("pack_scales", "scales", "powers of two", got));
    }
}

pub(in crate::backend::cpu) fn unpack_scales(mut args: UnpackScalesArgs<'_, Cpu>) {
    let (from, to) = (args.packed.layout(), args.out.layout());
    let (packed, out) = (args.packed.as_span(), args.out.as_mut_span());
    for_each_idx(to.shape(), |[group, row, block]| {
        let codes = packed[from.offset([group, row, block / 4])].to_le_bytes();
        out[to.offset([group, row, block])] = Ue8m0(codes[block % 4]).to_f32();
    });
}

/// Walks 32 x 32 tiles, so that neither of two orders strides through all of its memory per step.
fn for_each_idx([num_groups, rows, cols]: [usize; 3], mut body: impl FnMut([usize; 3])) {
    const TILE: usize = 32;
    for group in 0..num_groups {
        for first_row in (0..rows).step_by(TILE) {
            for first_col in (0..cols).step_by(TILE) {
                for row in first_row..rows.min(first_row + TILE) {
                    for col in first_col..cols.min(first_col + TILE) {
                        body([group, row, col]);
                    }
                }
            }
        }
    }
}
