//! The backend's stages: checked arguments to raw operands.

use super::{
    BadEntry, Bf16Mat, Extents, Fp8Mat, OutMat, OutStrides, RowsPerScale, ScaleMat, Segment,
    from_grouped_layout, from_offsets, with_segments,
};
use crate::backend::cpu::{Cpu, CpuStream};
use crate::error::{Error, Result};
use crate::gemm::{
    GemmArgs, GemmOut, GroupRows, GroupedGemmArgs, KGroupedGemmArgs, KGroupedOperands,
    MaskedGemmArgs, Operands,
};
use crate::num::bf16;
use crate::tensor::{Layout, QuantRef, TensorRef};

impl Cpu {
    pub(in crate::backend::cpu) fn dense(&self, args: GemmArgs<'_, Cpu>) -> Result<()> {
        let GemmArgs { operands, mut out } = args;
        let [m, k] = operands.a_layout().shape();
        let extents = Extents { m, n: operands.b_layout().shape()[0], k };
        let d_row_stride = out.layout().strides()[0];
        let d = (out_mat(&mut out), d_row_stride);
        match operands {
            Operands::Fp8 { a, b } => {
                let (a, b) = (a.split_rows(1)?, b.split_rows(1)?);
                let b = fp8_matrix(&b, 0, RowsPerScale::Block);
                super::gemm_nt(self.simd, fp8_matrix(&a, 0, RowsPerScale::One), b, d, extents);
            }
            Operands::Bf16 { a, b } => {
                let (a, b) = (a.split_rows(1)?, b.split_rows(1)?);
                super::gemm_nt(self.simd, bf16_matrix(&a, 0), bf16_matrix(&b, 0), d, extents);
            }
        }
        Ok(())
    }

    pub(in crate::backend::cpu) fn contiguous(
        &self,
        stream: &CpuStream,
        args: GroupedGemmArgs<'_, Cpu>,
    ) -> Result<()> {
        let GroupedGemmArgs { operands, rows, mut out, row_weights } = args;
        let [num_groups, n, _] = operands.b_layout().shape();
        let [m, k] = operands.a_layout().shape();
        let extents = Extents { m, n, k };
        let d_row_stride = out.layout().strides()[0];
        with_segments(|segments| {
            find_segments(stream, rows, num_groups, m, segments);
            let rows = (&**segments, row_weights.map(|weights| weights.as_span()));
            let d = (out_mat(&mut out), d_row_stride);
            match operands {
                Operands::Fp8 { a, b } => {
                    let a = a.split_rows(1)?;
                    let b = |group| fp8_matrix(&b, group, RowsPerScale::Block);
                    let a = fp8_matrix(&a, 0, RowsPerScale::One);
                    super::m_grouped_gemm_nt_contiguous(self.simd, a, b, rows, d, extents);
                }
                Operands::Bf16 { a, b } => {
                    let a = a.split_rows(1)?;
                    let b = |group| bf16_matrix(&b, group);
                    let a = bf16_matrix(&a, 0);
                    super::m_grouped_gemm_nt_contiguous(self.simd, a, b, rows, d, extents);
                }
            }
            Ok(())
        })
    }

    pub(in crate::backend::cpu) fn masked(
        &self,
        stream: &CpuStream,
        args: MaskedGemmArgs<'_, Cpu>,
    ) {
        let MaskedGemmArgs { operands, rows, mut out, row_weights } = args;
        let masked_m = rows.masked_m.as_span();
        report_negative_counts(stream, masked_m);
        let rows = (masked_m, row_weights.map(|weights| weights.as_span()));
        let [_, max_m, k] = operands.a_layout().shape();
        let extents = Extents { m: max_m, n: operands.b_layout().shape()[1], k };
        let strides = out_strides(out.layout());
        let d = (out_mat(&mut out), strides);
        match operands {
            Operands::Fp8 { a, b } => {
                let a = |group| fp8_matrix(&a, group, RowsPerScale::One);
                let b = |group| fp8_matrix(&b, group, RowsPerScale::Block);
                super::m_grouped_gemm_nt_masked(self.simd, a, b, rows, d, extents);
            }
            Operands::Bf16 { a, b } => {
                let a = |group| bf16_matrix(&a, group);
                let b = |group| bf16_matrix(&b, group);
                super::m_grouped_gemm_nt_masked(self.simd, a, b, rows, d, extents);
            }
        }
    }

    pub(in crate::backend::cpu) fn k_grouped(&self, args: KGroupedGemmArgs<'_, Cpu>) {
        let KGroupedGemmArgs { operands, ks, mut d } = args;
        let [_, m, n] = d.shape();
        let strides = out_strides(d.layout());
        let d = (d.as_mut_span(), strides);
        let first_k = |group: usize| ks[..group].iter().sum::<usize>();
        match operands {
            KGroupedOperands::Fp8 { a, b } => {
                let a = |group| fp8_group(&a, m, first_k(group), ks[group]);
                let b = |group| fp8_group(&b, n, first_k(group), ks[group]);
                super::k_grouped_gemm_nt_contiguous(self.simd, a, b, ks, d, [m, n]);
            }
            KGroupedOperands::Bf16 { a, b } => {
                let a = |group| bf16_group(&a, m, first_k(group), ks[group]);
                let b = |group| bf16_group(&b, n, first_k(group), ks[group]);
                super::k_grouped_gemm_nt_contiguous(self.simd, a, b, ks, d, [m, n]);
            }
        }
    }
}

/// Reports the first count below 0.
pub(super) fn report_negative_counts(stream: &CpuStream, masked_m: &[i32]) {
    if let Some((group, m)) = masked_m.iter().enumerate().find(|(_, m)| **m < 0) {
        let got = format!("{m} for group {group}");
        stream.report(Error::value("m_grouped_gemm_nt_masked", "masked_m", "at least 0", got));
    }
}

/// Splits the rows of A into runs of one group; reports what is out of range.
fn find_segments(
    stream: &CpuStream,
    rows: GroupRows<'_, Cpu>,
    num_groups: usize,
    m: usize,
    segments: &mut Vec<Segment>,
) {
    const OP: &str = "m_grouped_gemm_nt_contiguous";
    match rows {
        GroupRows::PerRow(grouped_layout) => {
            let bad = from_grouped_layout(grouped_layout.as_span(), num_groups, segments);
            if let Some(BadEntry { idx, value }) = bad {
                let expected = format!("-1 to {}", num_groups as i64 - 1);
                let got = format!("{value} at row {idx}");
                stream.report(Error::value(OP, "grouped_layout", expected, got));
            }
        }
        GroupRows::Offsets { expert_offsets, num_recv_tokens_per_expert } => {
            let offsets = expert_offsets.as_span();
            let bad = from_offsets(offsets, num_recv_tokens_per_expert.as_span(), m, segments);
            if let Some(BadEntry { idx, value }) = bad {
                let expected = format!("ascending offsets within 0..={m} and counts between them");
                let got = format!("{value} at group {idx}");
                stream.report(Error::value(OP, "expert_offsets", expected, got));
            }
        }
    }
}

fn out_mat<'a, const R: usize>(out: &'a mut GemmOut<'_, Cpu, R>) -> OutMat<'a> {
    match out {
        GemmOut::Bf16(d) => OutMat::Bf16(d.as_mut_span()),
        GemmOut::F32(d) => OutMat::F32(d.as_mut_span()),
        GemmOut::F32Accumulate(d) => OutMat::AddF32(d.as_mut_span()),
    }
}

fn out_strides(layout: Layout<3>) -> OutStrides {
    let [group, row, _] = layout.strides();
    OutStrides { row, group }
}

fn fp8_matrix<'a>(
    stack: &QuantRef<'a, Cpu, 3>,
    group: usize,
    rows_per_scale: RowsPerScale,
) -> Fp8Mat<'a> {
    let [_, row_stride, _] = stack.values.layout().strides();
    let [scale_group_stride, scale_row_stride, kblock_stride] = stack.scales.layout().strides();
    Fp8Mat {
        codes: bytemuck::cast_slice(group_of(&stack.values, group)),
        row_stride,
        scales: ScaleMat {
            data: from_offset(stack.scales.as_span(), group * scale_group_stride),
            rows_per_scale,
            row_stride: scale_row_stride,
            kblock_stride,
        },
    }
}

fn bf16_matrix<'a>(stack: &TensorRef<'a, Cpu, bf16, 3>, group: usize) -> Bf16Mat<'a> {
    Bf16Mat { values: group_of(stack, group), row_stride: stack.layout().strides()[1] }
}

fn group_of<'a, T: crate::tensor::Element>(
    stack: &TensorRef<'a, Cpu, T, 3>,
    group: usize,
) -> &'a [T] {
    from_offset(stack.as_span(), group * stack.layout().strides()[0])
}

/// From `offset` on; empty where an empty matrix lies past the end.
fn from_offset<T>(span: &[T], offset: usize) -> &[T] {
    span.get(offset..).unwrap_or_default()
}

/// Group `[rows, k]` of a flattened K-grouped operand.
fn fp8_group<'a>(all: &QuantRef<'a, Cpu, 1>, rows: usize, first_k: usize, k: usize) -> Fp8Mat<'a> {
    let first = rows * first_k;
    Fp8Mat {
        codes: bytemuck::cast_slice(&all.values.as_span()[first..][..rows * k]),
        row_stride: k,
        scales: ScaleMat {
            data: &all.scales.as_span()[first / 128..][..rows * k / 128],
            rows_per_scale: RowsPerScale::One,
            row_stride: k / 128,
            kblock_stride: 1,
        },
    }
}

fn bf16_group<'a>(
    all: &TensorRef<'a, Cpu, bf16, 1>,
    rows: usize,
    first_k: usize,
    k: usize,
) -> Bf16Mat<'a> {
    Bf16Mat { values: &all.as_span()[rows * first_k..][..rows * k], row_stride: k }
}
