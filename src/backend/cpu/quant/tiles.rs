//! Per 128 x 128 block, and per 128 rows and channel.

use super::block::{magnitude_bits, scale_and_inverse};
use super::channel::{ChannelTile, WIDTH};
use crate::backend::Cpu;
use crate::backend::cpu::parallel::for_each_range;
use crate::backend::cpu::shared_mut::SharedMut;
use crate::backend::cpu::simd::Kernel;
use crate::moe::Activation;
use crate::moe::quant::{GRAN_K, QuantizeBlockArgs, QuantizeChannelArgs, ScaleFormat};
use crate::num::{E4M3, ceil_div};
use crate::tensor::{Layout, QuantMut, TensorRef};

/// Rows that one scale covers.
const GRAN_ROWS: usize = 128;

pub(in crate::backend::cpu) fn quantize_block<T: Activation>(
    cpu: &Cpu,
    mut args: QuantizeBlockArgs<'_, Cpu, T>,
) {
    for_each_tile_row(&Job::new(args.x, &mut args.out, args.format), |job, group, tile_row| {
        cpu.simd().run(BlockRow { job, group, tile_row });
    });
}

pub(in crate::backend::cpu) fn quantize_channel<T: Activation>(
    cpu: &Cpu,
    mut args: QuantizeChannelArgs<'_, Cpu, T>,
) {
    for_each_tile_row(&Job::new(args.x, &mut args.out, args.format), |job, group, tile_row| {
        cpu.simd().run(ChannelRow { job, group, tile_row });
    });
}

struct Job<'a, T> {
    x: TensorRef<'a, Cpu, T, 3>,
    format: ScaleFormat,
    values_layout: Layout<3>,
    scales_layout: Layout<3>,
    values: SharedMut<'a, E4M3>,
    scales: SharedMut<'a, f32>,
}

impl<'a, T: Activation> Job<'a, T> {
    fn new(
        x: TensorRef<'a, Cpu, T, 3>,
        out: &'a mut QuantMut<'_, Cpu, 3>,
        format: ScaleFormat,
    ) -> Self {
        Self {
            x,
            format,
            values_layout: out.values.layout(),
            scales_layout: out.scales.layout(),
            values: SharedMut::new(out.values.as_mut_span()),
            scales: SharedMut::new(out.scales.as_mut_span()),
        }
    }

    #[inline(always)]
    fn input(&self, [group, row, col]: [usize; 3], len: usize) -> &'a [T] {
        &self.x.as_span()[self.x.layout().offset([group, row, col])..][..len]
    }
}

fn for_each_tile_row<'a, T: Activation>(
    job: &Job<'a, T>,
    body: impl Fn(&Job<'a, T>, usize, usize) + Sync,
) {
    let [num_groups, rows, cols] = job.x.shape();
    let tile_rows = ceil_div(rows, GRAN_ROWS);
    if cols == 0 {
        return;
    }
    for_each_range(num_groups * tile_rows, GRAN_ROWS * cols * (size_of::<T>() + 1), |range| {
        for item in range {
            body(job, item / tile_rows, item % tile_rows);
        }
    });
}

struct BlockRow<'a, 'b, T> {
    job: &'b Job<'a, T>,
    group: usize,
    tile_row: usize,
}

impl<T: Activation> Kernel for BlockRow<'_, '_, T> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Self { job, group, tile_row } = self;
        let [_, num_rows, num_cols] = job.x.shape();
        let rows = tile_row * GRAN_ROWS..num_rows.min((tile_row + 1) * GRAN_ROWS);
        for col in (0..num_cols).step_by(GRAN_K) {
            let len = GRAN_K.min(num_cols - col);
            let mut amax = 0;
            for row in rows.clone() {
                let x = job.input([group, row, col], len);
                amax = x.iter().map(|x| magnitude_bits(x.to_f32())).fold(amax, u32::max);
            }
            let (sf, inverse) = scale_and_inverse(amax, job.format);
            for row in rows.clone() {
                let x = job.input([group, row, col], len);
                let offset = job.values_layout.offset([group, row, col]);
                // SAFETY: each block is in one call alone, and rows do not overlap.
                let codes = unsafe { job.values.slice(offset, len) };
                for (code, x) in codes.iter_mut().zip(x) {
                    *code = E4M3::from_f32(x.to_f32() * inverse);
                }
            }
            let offset = job.scales_layout.offset([group, tile_row, col / GRAN_K]);
            // SAFETY: as above; the layout of the scales has no overlaps.
            unsafe { job.scales.write(offset, sf) };
        }
    }
}

struct ChannelRow<'a, 'b, T> {
    job: &'b Job<'a, T>,
    group: usize,
    tile_row: usize,
}

impl<T: Activation> Kernel for ChannelRow<'_, '_, T> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Self { job, group, tile_row } = self;
        let [_, _, num_cols] = job.x.shape();
        let mut tile = ChannelTile::new();
        for col in (0..num_cols).step_by(WIDTH) {
            let len = WIDTH.min(num_cols - col);
            let first_row = tile_row * GRAN_ROWS;
            tile.quantize(
                |row| job.input([group, first_row + row, col], len),
                GRAN_ROWS,
                job.format,
            );
            for (row, codes) in tile.codes.iter().enumerate() {
                let offset = job.values_layout.offset([group, first_row + row, col]);
                // SAFETY: each tile is in one call alone, and rows do not overlap.
                unsafe { job.values.slice(offset, len) }.copy_from_slice(&codes[..len]);
            }
            for (idx, &sf) in tile.scales[..len].iter().enumerate() {
                let offset = job.scales_layout.offset([group, tile_row, col + idx]);
                // SAFETY: as above; the layout of the scales has no overlaps.
                unsafe { job.scales.write(offset, sf) };
            }
        }
    }
}
