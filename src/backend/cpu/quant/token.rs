//! Per token x 128 of K.

use std::ops::Range;

use super::{quantize_row, zero_scale};
use crate::backend::Cpu;
use crate::backend::cpu::parallel::for_each_range;
use crate::backend::cpu::shared_mut::SharedMut;
use crate::backend::cpu::simd::Kernel;
use crate::moe::quant::{QuantizeArgs, ScaleFormat};
use crate::moe::{Activation, Rows};
use crate::num::E4M3;
use crate::tensor::{Layout, TensorRef};

pub(in crate::backend::cpu) fn quantize<T: Activation>(
    cpu: &Cpu,
    mut args: QuantizeArgs<'_, Cpu, T>,
) {
    let [num_groups, m, k] = args.x.shape();
    if k == 0 {
        return;
    }
    let job = Job {
        x: args.x,
        rows: args.rows,
        format: args.format,
        values_layout: args.out.values.layout(),
        scales_layout: args.out.scales.layout(),
        values: SharedMut::new(args.out.values.as_mut_span()),
        scales: SharedMut::new(args.out.scales.as_mut_span()),
    };
    for_each_range(num_groups * m, k * (size_of::<T>() + 1), |range| {
        cpu.simd().run(RowsOf { job: &job, range });
    });
}

struct Job<'a, T> {
    x: TensorRef<'a, Cpu, T, 3>,
    rows: Rows<'a, Cpu>,
    format: ScaleFormat,
    values_layout: Layout<3>,
    scales_layout: Layout<3>,
    values: SharedMut<'a, E4M3>,
    scales: SharedMut<'a, f32>,
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
        let [_, m, k] = job.x.shape();
        let x = job.x.as_span();
        for row in self.range {
            let [group, row] = [row / m, row % m];
            let [_, _, block_stride] = job.scales_layout.strides();
            let scale_offset = job.scales_layout.offset([group, row, 0]);
            // SAFETY: each row is in one range alone, and the layouts have no overlaps.
            let codes = unsafe { job.values.slice(job.values_layout.offset([group, row, 0]), k) };
            // SAFETY: as above.
            let write_scale = |block: usize, sf: f32| unsafe {
                job.scales.write(scale_offset + block * block_stride, sf);
            };
            if job.rows.has_token([group, row], m) {
                let x = &x[job.x.layout().offset([group, row, 0])..][..k];
                quantize_row(x, codes, job.format, write_scale);
            } else {
                codes.fill(E4M3(0));
                let sf = zero_scale(job.format);
                (0..job.scales_layout.shape()[2]).for_each(|block| write_scale(block, sf));
            }
        }
    }
}
