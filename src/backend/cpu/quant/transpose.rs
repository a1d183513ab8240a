//! The transposing quantisation.

use std::ops::Range;

use super::block::zero_scale;
use super::channel::{ChannelTile, WIDTH};
use crate::backend::cpu::parallel::for_each_range;
use crate::backend::cpu::shared_mut::SharedMut;
use crate::backend::cpu::simd::Kernel;
use crate::backend::cpu::{Cpu, CpuStream};
use crate::error::Error;
use crate::moe::Activation;
use crate::moe::quant::{GRAN_K, QuantizeTransposeArgs, ScaleFormat};
use crate::num::E4M3;
use crate::tensor::TensorRef;

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
    if num_features == 0 {
        return;
    }
    let job = Job {
        x: args.x,
        expert_offsets,
        num_tokens: args.num_recv_tokens_per_expert.as_span(),
        format: args.format,
        values: SharedMut::new(args.out.values.as_mut_span()),
        scales: SharedMut::new(args.out.scales.as_mut_span()),
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
    num_tokens: &'a [i32],
    format: ScaleFormat,
    values: SharedMut<'a, E4M3>,
    scales: SharedMut<'a, f32>,
}

impl<T> Job<'_, T> {
    /// The rows of the expert that has row `row`, and how many of them hold tokens.
    fn segment(&self, row: usize) -> Option<(Range<usize>, usize)> {
        let after = self.expert_offsets.partition_point(|&offset| offset as usize <= row);
        let end = *self.expert_offsets.get(after)? as usize;
        let start = self.expert_offsets[after - 1] as usize;
        let num_tokens = usize::try_from(self.num_tokens[after - 1]).unwrap_or(0);
        Some((start..end, num_tokens.min(end - start)))
    }
}

/// Rows `128 * block ..` of all features.
struct Block<'a, 'b, T> {
    job: &'b Job<'a, T>,
    block: usize,
}

impl<T: Activation> Kernel for Block<'_, '_, T> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Self { job, block } = self;
        let [_, num_features] = job.x.shape();
        let first_row = block * GRAN_K;
        let Some((segment, num_tokens)) = job.segment(first_row) else {
            // SAFETY: these rows' share of the outputs is in this call alone.
            let (values, scales) = unsafe {
                let values = job.values.slice(num_features * first_row, num_features * GRAN_K);
                (values, job.scales.slice(num_features * block, num_features))
            };
            values.fill(E4M3(0));
            return scales.fill(zero_scale(job.format));
        };
        let k = segment.len();
        let num_rows = (segment.start + num_tokens).saturating_sub(first_row).min(GRAN_K);
        // Where feature 0 of these rows stands; feature f is f * k codes on.
        let first_code = num_features * segment.start + (first_row - segment.start);
        let first_scale = num_features * (segment.start / GRAN_K) + block - segment.start / GRAN_K;
        let mut tile = ChannelTile::new();
        for feature in (0..num_features).step_by(WIDTH) {
            let len = WIDTH.min(num_features - feature);
            let row =
                |row| &job.x.as_span()[job.x.layout().offset([first_row + row, feature])..][..len];
            tile.quantize(row, num_rows, job.format);
            for idx in 0..len {
                // SAFETY: these tokens of this feature are in this call alone.
                let codes = unsafe { job.values.slice(first_code + (feature + idx) * k, GRAN_K) };
                for (code, row) in codes.iter_mut().zip(&tile.codes) {
                    *code = row[idx];
                }
                let offset = first_scale + (feature + idx) * (k / GRAN_K);
                // SAFETY: as above.
                unsafe { job.scales.write(offset, tile.scales[idx]) };
            }
        }
    }
}
