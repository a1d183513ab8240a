//! Per 128 x 128 block, and per 128 rows and channel.

use super::block::{Amax, scale_and_inverse};
use super::channel::{ChannelTile, WIDTH};
use crate::backend::cpu::parallel::for_each_range;
use crate::backend::cpu::shared_mut::SharedMut;
use crate::backend::cpu::simd::Kernel;
use crate::backend::{Cpu, SimdLevel};
use crate::moe::Activation;
use crate::moe::quant::{GRAN_K, QuantizeBlockArgs, QuantizeChannelArgs, ScaleFormat};
use crate::num::{E4M3, ceil_div};
use crate::tensor::{Layout, QuantMut, TensorRef};

/// Rows that one scale covers.
const GRAN_ROWS: usize = 128;
/// Columns walked together: 128 rows of them fit a core's second cache.
const BAND: usize = 16 * GRAN_K;

pub(in crate::backend::cpu) fn quantize_block<T: Activation>(
    cpu: &Cpu,
    mut args: QuantizeBlockArgs<'_, Cpu, T>,
) {
    for_each_tile_row(
        &Job::new(cpu, args.x, &mut args.out, args.format),
        |job, group, tile_row| {
            cpu.simd().run(BlockRow { job, group, tile_row });
        },
    );
}

pub(in crate::backend::cpu) fn quantize_channel<T: Activation>(
    cpu: &Cpu,
    mut args: QuantizeChannelArgs<'_, Cpu, T>,
) {
    for_each_tile_row(
        &Job::new(cpu, args.x, &mut args.out, args.format),
        |job, group, tile_row| {
            cpu.simd().run(ChannelRow { job, group, tile_row });
        },
    );
}

struct Job<'a, T> {
    x: TensorRef<'a, Cpu, T, 3>,
    simd: SimdLevel,
    format: ScaleFormat,
    values_layout: Layout<3>,
    scales_layout: Layout<3>,
    values: SharedMut<'a, E4M3>,
    scales: SharedMut<'a, f32>,
}

impl<'a, T: Activation> Job<'a, T> {
    fn new(
        cpu: &Cpu,
        x: TensorRef<'a, Cpu, T, 3>,
        out: &'a mut QuantMut<'_, Cpu, 3>,
        format: ScaleFormat,
    ) -> Self {
        Self {
            x,
            simd: cpu.simd(),
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
        let [_, _, num_cols] = self.job.x.shape();
        for col in (0..num_cols).step_by(BAND) {
            self.quantize_band(col, BAND.min(num_cols - col));
        }
    }
}

impl<T: Activation> BlockRow<'_, '_, T> {
    /// Quantises `len` columns from `col` on, row by row, once for the scales and once for the
    /// codes.
    #[inline(always)]
    fn quantize_band(&self, col: usize, len: usize) {
        let Self { job, group, tile_row } = *self;
        let [_, num_rows, _] = job.x.shape();
        let rows = tile_row * GRAN_ROWS..num_rows.min((tile_row + 1) * GRAN_ROWS);
        let mut amax = [Amax::ZERO; BAND / GRAN_K];
        for row in rows.clone() {
            let x = job.input([group, row, col], len);
            for (amax, x) in amax.iter_mut().zip(x.chunks(GRAN_K)) {
                *amax = amax.and(job.simd, x);
            }
        }
        let mut inverse = [0.0; BAND / GRAN_K];
        for block in 0..len.div_ceil(GRAN_K) {
            let (sf, inverse_sf) = scale_and_inverse(amax[block].bits, job.format);
            inverse[block] = inverse_sf;
            let offset = job.scales_layout.offset([group, tile_row, col / GRAN_K + block]);
            // SAFETY: each block is in one call alone; the layout of the scales has no overlaps.
            unsafe { job.scales.write(offset, sf) };
        }
        for row in rows {
            let x = job.input([group, row, col], len);
            // SAFETY: as above; rows do not overlap.
            let codes =
                unsafe { job.values.slice(job.values_layout.offset([group, row, col]), len) };
            let blocks = x.chunks(GRAN_K).zip(codes.chunks_mut(GRAN_K));
            for ((amax, inverse), (x, codes)) in amax.iter().zip(inverse).zip(blocks) {
                amax.encode(job.simd, x, inverse, codes);
            }
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
