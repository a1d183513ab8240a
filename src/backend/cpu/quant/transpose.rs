//! The transposing quantisation.

use std::ops::Range;

use super::channel::{ChannelTile, WIDTH};
use super::zero_scale;
use crate::backend::cpu::isa::{Isa, Kernel};
use crate::backend::cpu::parallel::{SharedMut, for_each_range};
use crate::backend::cpu::{Cpu, CpuStream};
use crate::error::Error;
use crate::moe::Activation;
use crate::moe::quant::{GRAN_K, QuantizeTransposeArgs, ScaleFormat};
use crate::num::E4M3;
use crate::tensor::{Layout, TensorRef};

pub(in crate::backend::cpu) fn quantize_transpose<T: Activation>(
    cpu: &Cpu,
    stream: &CpuStream,
    mut args: QuantizeTransposeArgs<'_, Cpu, T>,
) {
    let [m, num_features] = args.x.shape();
    let expert_offsets = args.expert_offsets.as_span();
    if let Some(fault) = offsets_fault(expert_offsets, m) {
        return stream.report(fault);
    }
    let job = Job {
        x: args.x,
        expert_offsets,
        num_rows: args.num_rows.as_span(),
        format: args.format,
        values: SharedMut::new(args.values.as_mut_ptr()),
        scales_layout: args.scales.layout(),
        scales: SharedMut::new(args.scales.as_mut_ptr()),
    };
    let block_bytes = GRAN_K * num_features * (size_of::<T>() + 1);
    for_each_range(m / GRAN_K, block_bytes, |range| {
        range.for_each(|block| cpu.simd().run(Block { job: &job, block }));
    });
}

fn offsets_fault(expert_offsets: &[i32], m: usize) -> Option<Error> {
    let mut previous = 0;
    for (idx, &offset) in expert_offsets.iter().enumerate() {
        let in_range = usize::try_from(offset).is_ok_and(|offset| offset <= m);
        let aligned = offset % GRAN_K as i32 == 0;
        if !in_range || !aligned || offset < previous || (idx == 0 && offset != 0) {
            let expected = format!("0, then ascending multiples of {GRAN_K} up to {m}");
            let got = format!("{offset} at index {idx}");
            return Some(Error::value("quantize_transpose", "expert_offsets", expected, got));
        }
        previous = offset;
    }
    None
}

struct Job<'a, T> {
    x: TensorRef<'a, Cpu, T, 2>,
    expert_offsets: &'a [i32],
    num_rows: &'a [i32],
    format: ScaleFormat,
    values: SharedMut<E4M3>,
    scales_layout: Layout<2>,
    scales: SharedMut<f32>,
}

impl<T> Job<'_, T> {
    /// The rows of the segment that holds row `row`, and how many of them hold tokens.
    fn segment(&self, row: usize) -> Option<(Range<usize>, usize)> {
        let after = self.expert_offsets.partition_point(|&offset| offset as usize <= row);
        let end = *self.expert_offsets.get(after)? as usize;
        let start = self.expert_offsets[after - 1] as usize;
        let num_rows = usize::try_from(self.num_rows[after - 1]).unwrap_or(0);
        Some((start..end, num_rows.min(end - start)))
    }
}

/// Rows `128 * block ..` of all features.
struct Block<'a, T> {
    job: &'a Job<'a, T>,
    block: usize,
}

impl<T: Activation> Kernel for Block<'_, T> {
    #[inline(always)]
    fn run<I: Isa>(self) {
        let Self { job, block } = self;
        let [_, num_features] = job.x.shape();
        let first_row = block * GRAN_K;
        let Some((segment, num_tokens)) = job.segment(first_row) else {
            // SAFETY: the codes of these rows are in this call alone.
            let codes =
                unsafe { job.values.slice(num_features * first_row, num_features * GRAN_K) };
            codes.fill(E4M3(0));
            return (0..num_features).for_each(|f| self.write_scale(f, zero_scale(job.format)));
        };
        let k = segment.len();
        let num_rows = (segment.start + num_tokens).saturating_sub(first_row).min(GRAN_K);
        let first_code = num_features * segment.start + (first_row - segment.start);
        let mut tile = ChannelTile::new();
        for feature in (0..num_features).step_by(WIDTH) {
            let len = WIDTH.min(num_features - feature);
            let row =
                |row| &job.x.as_span()[job.x.layout().offset([first_row + row, feature])..][..len];
            tile.quantize(row, num_rows, job.format);
            for idx in 0..len {
                let offset = first_code + (feature + idx) * k;
                // SAFETY: these 128 tokens of this feature are in this call alone.
                let codes = unsafe { job.values.slice(offset, GRAN_K) };
                for (code, row) in codes.iter_mut().zip(&tile.codes) {
                    *code = row[idx];
                }
                self.write_scale(feature + idx, tile.scales[idx]);
            }
        }
    }
}

impl<T> Block<'_, T> {
    #[inline(always)]
    fn write_scale(&self, feature: usize, sf: f32) {
        let offset = self.job.scales_layout.offset([feature, self.block]);
        // SAFETY: each block of tokens is in one call alone, and the layout has no overlaps.
        unsafe { self.job.scales.write(offset, sf) };
    }
}
