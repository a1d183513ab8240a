//! Codes times scales.

use std::ops::Range;

use crate::backend::Cpu;
use crate::backend::cpu::parallel::for_each_range;
use crate::backend::cpu::shared_mut::SharedMut;
use crate::backend::cpu::simd::Kernel;
use crate::moe::Activation;
use crate::moe::quant::{DequantizeArgs, Granularity};
use crate::tensor::{Layout, QuantRef};

pub(in crate::backend::cpu) fn dequantize<T: Activation>(
    cpu: &Cpu,
    mut args: DequantizeArgs<'_, Cpu, T>,
) {
    let [num_groups, num_rows, k] = args.x.values.shape();
    if k == 0 {
        return;
    }
    let job = Job {
        x: args.x,
        granularity: args.granularity,
        out_layout: args.out.layout(),
        out: SharedMut::new(args.out.as_mut_span()),
    };
    for_each_range(num_groups * num_rows, k * (size_of::<T>() + 1), |range| {
        cpu.simd().run(RowsOf { job: &job, range });
    });
}

struct Job<'a, T> {
    x: QuantRef<'a, Cpu, 3>,
    granularity: Granularity,
    out_layout: Layout<3>,
    out: SharedMut<'a, T>,
}

struct RowsOf<'a, T> {
    job: &'a Job<'a, T>,
    range: Range<usize>,
}

impl<T: Activation> Kernel for RowsOf<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let job = self.job;
        let [_, num_rows, k] = job.x.values.shape();
        let [tile_rows, tile_cols] = job.granularity.tile();
        let scales = job.x.scales.as_span();
        for row in self.range {
            let [group, row] = [row / num_rows, row % num_rows];
            let codes =
                &job.x.values.as_span()[job.x.values.layout().offset([group, row, 0])..][..k];
            // SAFETY: each row is in one range alone, and rows do not overlap.
            let out = unsafe { job.out.slice(job.out_layout.offset([group, row, 0]), k) };
            for (block, (codes, out)) in
                codes.chunks(tile_cols).zip(out.chunks_mut(tile_cols)).enumerate()
            {
                let sf = scales[job.x.scales.layout().offset([group, row / tile_rows, block])];
                for (code, out) in codes.iter().zip(out) {
                    *out = T::from_f32(code.to_f32() * sf);
                }
            }
        }
    }
}
