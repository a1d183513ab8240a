//! Per token x 128 of K.

use std::ops::Range;

use super::QuantOut;
use crate::backend::Cpu;
use crate::backend::cpu::parallel::for_each_range;
use crate::backend::cpu::simd::Kernel;
use crate::moe::quant::QuantizeArgs;
use crate::moe::{Activation, Rows};
use crate::tensor::TensorRef;

pub(in crate::backend::cpu) fn quantize<T: Activation>(
    cpu: &Cpu,
    mut args: QuantizeArgs<'_, Cpu, T>,
) {
    let [num_groups, m, k] = args.x.shape();
    if k == 0 {
        return;
    }
    let (x, rows, out) = (args.x, args.rows, QuantOut::new(&mut args.out, args.format));
    for_each_range(num_groups * m, k * (size_of::<T>() + 1), |range| {
        cpu.simd().run(RowsOf { x, rows, out: &out, range });
    });
}

struct RowsOf<'a, T> {
    x: TensorRef<'a, Cpu, T, 3>,
    rows: Rows<'a, Cpu>,
    out: &'a QuantOut<'a>,
    range: Range<usize>,
}

impl<T: Activation> Kernel for RowsOf<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let [_, m, k] = self.x.shape();
        for row in self.range {
            let row @ [group, row_idx] = [row / m, row % m];
            // SAFETY: each row is in one range alone.
            let mut out = unsafe { self.out.row(row) };
            if self.rows.has_token(row, m) {
                let start = self.x.layout().offset([group, row_idx, 0]);
                out.quantize(&self.x.as_span()[start..][..k]);
            } else {
                out.write_zeros();
            }
        }
    }
}
