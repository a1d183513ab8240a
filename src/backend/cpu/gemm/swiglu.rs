//! The experts' first product with its activation: the two stages, with a BF16 tensor of this thread's between them.

use std::cell::RefCell;

use crate::backend::Backend;
use crate::backend::cpu::{Cpu, CpuStream};
use crate::error::Result;
use crate::gemm::{
    GemmArgs, GemmOut, GroupRows, GroupedGemmArgs, GroupedSwigluArgs, MaskedSwigluArgs, Operands,
};
use crate::moe::Rows;
use crate::moe::quant::ScaleFormat;
use crate::moe::swiglu::{SwigluInput, SwigluQuantizeArgs};
use crate::num::bf16;
use crate::tensor::{Element, Layout, QuantMut, QuantRef, TensorMut, TensorRef};

thread_local! {
    static GATE_UP: RefCell<Vec<bf16>> = const { RefCell::new(Vec::new()) };
}

/// Lends `len` elements of unspecified content, in memory that keeps its capacity from call to call.
fn with_gate_up<R>(len: usize, f: impl FnOnce(&mut [bf16]) -> R) -> R {
    let mut memory = GATE_UP.take();
    if memory.len() < len {
        memory.resize(len, bf16::ZERO);
    }
    let result = f(&mut memory[..len]);
    GATE_UP.set(memory);
    result
}

impl Cpu {
    pub(in crate::backend::cpu) fn swiglu_contiguous(
        &self,
        stream: &CpuStream,
        args: GroupedSwigluArgs<'_, Cpu>,
    ) -> Result<()> {
        let GroupedSwigluArgs { a, b, rows, out } = args;
        let ([m, _], [_, n, _]) = (a.values.shape(), b.values.shape());
        with_gate_up(m * n, |gate_up| {
            let d = GemmOut::Bf16(TensorMut::from_slice(gate_up, [m, n])?);
            self.contiguous(stream, GroupedGemmArgs::new(Operands::Fp8 { a, b }, rows, d)?)?;
            let rows = match rows {
                GroupRows::PerRow(grouped_layout) => Rows::PerRow(grouped_layout),
                GroupRows::Offsets { expert_offsets, num_recv_tokens_per_expert } => {
                    Rows::Offsets { expert_offsets, num_recv_tokens_per_expert }
                }
            };
            let gate_up = TensorRef::from_slice(gate_up, [1, m, n])?;
            let (limit, row_weights) = (out.limit, out.row_weights);
            let input = SwigluInput { gate_up, rows, limit, row_weights };
            self.activate(stream, input, out.act, out.scale_format)
        })
    }

    /// Group by group: rows behind a group's count are left as they are.
    pub(in crate::backend::cpu) fn swiglu_masked(
        &self,
        stream: &CpuStream,
        args: MaskedSwigluArgs<'_, Cpu>,
    ) -> Result<()> {
        let MaskedSwigluArgs { a, b, rows, mut out } = args;
        let masked_m = rows.masked_m.as_span();
        super::stages::report_negative_counts(stream, masked_m);
        let ([_, max_m, _], [_, n, _]) = (a.values.shape(), b.values.shape());
        for (group, &count) in masked_m.iter().enumerate() {
            let m = usize::try_from(count).unwrap_or(0).min(max_m);
            // SAFETY: one group at a time is written, and `m` is at most what a group has.
            let (a, act) =
                unsafe { (first_rows(a, group, m), first_rows_mut(&mut out.act, group, m)) };
            let b = b.matrix(group)?;
            with_gate_up(m * n, |gate_up| {
                let d = GemmOut::Bf16(TensorMut::from_slice(gate_up, [m, n])?);
                self.dense(GemmArgs::new(Operands::Fp8 { a, b }, d)?)?;
                let first = group * max_m;
                let row_weights = out.row_weights.map(|weights| &weights.as_span()[first..][..m]);
                let row_weights =
                    row_weights.map(|it| TensorRef::from_slice(it, [m])).transpose()?;
                let gate_up = TensorRef::from_slice(gate_up, [1, m, n])?;
                let input = SwigluInput { gate_up, rows: Rows::All, limit: out.limit, row_weights };
                self.activate(stream, input, act, out.scale_format)
            })?;
        }
        Ok(())
    }

    fn activate(
        &self,
        stream: &CpuStream,
        input: SwigluInput<'_, Cpu, bf16, 3>,
        act: QuantMut<'_, Cpu, 3>,
        format: ScaleFormat,
    ) -> Result<()> {
        self.swiglu_quantize(stream, SwigluQuantizeArgs::new(input, act, format)?)
    }
}

/// The first `m` rows of a group of A.
///
/// # Safety
///
/// There are that many groups and rows.
unsafe fn first_rows<'a>(a: QuantRef<'a, Cpu, 3>, group: usize, m: usize) -> QuantRef<'a, Cpu, 2> {
    unsafe fn of<'a, T: Element>(
        stack: &TensorRef<'a, Cpu, T, 3>,
        group: usize,
        m: usize,
    ) -> TensorRef<'a, Cpu, T, 2> {
        let ([.., k], [group_stride, row, column]) =
            (stack.layout().shape(), stack.layout().strides());
        let first = stack.as_ptr().wrapping_add(group * group_stride);
        // SAFETY: the caller says that the rows are there.
        unsafe { TensorRef::from_raw(first, Layout::with_strides([m, k], [row, column])) }
    }
    // SAFETY: as above; scales have the values' rows.
    unsafe { QuantRef { values: of(&a.values, group, m), scales: of(&a.scales, group, m) } }
}

/// The first `m` rows of a group of the activations, as a stack of one.
///
/// # Safety
///
/// There are that many groups and rows.
unsafe fn first_rows_mut<'a>(
    act: &'a mut QuantMut<'_, Cpu, 3>,
    group: usize,
    m: usize,
) -> QuantMut<'a, Cpu, 3> {
    unsafe fn of<'a, T: Element>(
        stack: &'a mut TensorMut<'_, Cpu, T, 3>,
        group: usize,
        m: usize,
    ) -> TensorMut<'a, Cpu, T, 3> {
        let ([.., k], [group_stride, row, column]) =
            (stack.layout().shape(), stack.layout().strides());
        let layout = Layout::with_strides([1, m, k], [m * row, row, column]);
        let first = stack.as_mut_ptr().wrapping_add(group * group_stride);
        // SAFETY: the caller says that the rows are there; the stack stays borrowed.
        unsafe { TensorMut::from_raw(first, layout) }
    }
    // SAFETY: as above; scales have the values' rows.
    unsafe {
        QuantMut { values: of(&mut act.values, group, m), scales: of(&mut act.scales, group, m) }
    }
}
