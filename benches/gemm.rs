//! Matrix products against the processor's limits, at DeepSeek-V3's shapes.
//!
//! `cargo bench --bench gemm [-- avx2|portable] [-- PART OF A NAME]`; `RAYON_NUM_THREADS` sets the threads. Products of many
//! rows are measured against FP32 multiply-adds, those of few rows (decode, weights from cold memory) against
//! reading, counted on the weights' bytes alone.

mod common;

use common::{Limit, Work};
use moekit::cost::Cost;
use moekit::gemm::{
    GemmArgs, GemmFormat, GemmKind, GemmOut, GemmShape, GroupRows, GroupedGemmArgs,
    KGroupedGemmArgs, KGroupedOperands, MaskedGemmArgs, MaskedRows, Operands,
};
use moekit::num::{E4M3, bf16, ceil_div};
use moekit::tensor::{QuantTensor, ScaleLayout, Tensor};
use moekit::{Backend, Cpu, Result};

/// `[n, k]` of the first and the second product.
const SHAPES: [[usize; 2]; 2] = [[4096, 7168], [7168, 2048]];

fn main() -> Result<()> {
    let cpu = common::cpu()?;
    let bench = Bench { stream: cpu.stream()?, cpu };
    common::header(&format!("simd {}", bench.cpu.simd()));
    for shape in SHAPES {
        for m in [64, 128, 256, 1024] {
            bench.fp8_dense(m, shape)?;
        }
        for m in [64, 128, 256] {
            bench.fp8_contiguous(4, m, shape)?;
        }
        for m in [256, 1024] {
            bench.bf16_dense(m, shape)?;
        }
    }
    bench.bf16_dense(1024, [256, 7168])?;
    for shape in SHAPES {
        for m in [1, 2, 4, 8, 16] {
            bench.fp8_masked(24, m, shape)?;
        }
    }
    bench.fp8_k_grouped([4096, 2048], &[512, 1024, 256])
}

struct Bench {
    cpu: Cpu,
    stream: <Cpu as Backend>::Stream,
}

/// FP8 codes as quantised weights have them: bell-shaped, the largest of 128 near 448.
fn codes(num: usize) -> Vec<E4M3> {
    let mut state = 1u64;
    let mut code = || {
        state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
        let dice = (0..4).map(|idx| (state >> (16 + 12 * idx) & 0xfff) as f32).sum::<f32>();
        E4M3::from_f32((dice / 4096.0 - 2.0) * 260.0)
    };
    (0..num).map(|_| code()).collect()
}

impl Bench {
    fn rows(&self, m: usize, k: usize) -> Result<QuantTensor<Cpu, 2>> {
        let mut rows = QuantTensor::zeros_per_row(&self.cpu, [m, k], ScaleLayout::RowMajor)?;
        rows.values.view_mut().copy_from_host(&self.cpu, &codes(m * k))?;
        let scales = vec![0.5; m * ceil_div(k, 128)];
        rows.scales.view_mut().copy_from_host(&self.cpu, &scales)?;
        Ok(rows)
    }

    fn weights(&self, num_groups: usize, [n, k]: [usize; 2]) -> Result<QuantTensor<Cpu, 3>> {
        let scale_shape = [num_groups, ceil_div(n, 128), ceil_div(k, 128)];
        let scales = vec![0.5; scale_shape.iter().product()];
        Ok(QuantTensor {
            values: Tensor::from_host(&self.cpu, &codes(num_groups * n * k), [num_groups, n, k])?,
            scales: Tensor::from_host(&self.cpu, &scales, scale_shape)?,
        })
    }

    fn fp8_dense(&self, m: usize, shape @ [n, k]: [usize; 2]) -> Result<()> {
        let (a, b) = (self.rows(m, k)?, self.weights(1, shape)?);
        let mut d = Tensor::<_, bf16, 2>::zeros(&self.cpu, [m, n])?;
        let work = Work::from(GemmShape::new(GemmKind::Dense, m, n, k).cost());
        common::line("fp8 dense", &format!("m{m} n{n} k{k}"), work, Limit::Fma, || {
            let b = b.view().matrix(0).expect("one matrix");
            let out = GemmOut::Bf16(d.view_mut());
            let args = GemmArgs::new(Operands::Fp8 { a: a.view(), b }, out);
            self.cpu.gemm_nt(&self.stream, args.expect("shapes agree")).expect("a product");
        });
        Ok(())
    }

    fn bf16_dense(&self, m: usize, [n, k]: [usize; 2]) -> Result<()> {
        let values = |num: usize| -> Vec<bf16> {
            codes(num).into_iter().map(|code| bf16::from_f32(code.to_f32())).collect()
        };
        let a = Tensor::from_host(&self.cpu, &values(m * k), [m, k])?;
        let b = Tensor::from_host(&self.cpu, &values(n * k), [n, k])?;
        let mut d = Tensor::<_, bf16, 2>::zeros(&self.cpu, [m, n])?;
        let shape = GemmShape::new(GemmKind::Dense, m, n, k);
        let work = Work::from(GemmShape { format: GemmFormat::Bf16, ..shape }.cost());
        common::line("bf16 dense", &format!("m{m} n{n} k{k}"), work, Limit::Fma, || {
            let out = GemmOut::Bf16(d.view_mut());
            let args = GemmArgs::new(Operands::Bf16 { a: a.view(), b: b.view() }, out);
            self.cpu.gemm_nt(&self.stream, args.expect("shapes agree")).expect("a product");
        });
        Ok(())
    }

    /// `m` rows in each group.
    fn fp8_contiguous(
        &self,
        num_groups: usize,
        m: usize,
        shape @ [n, k]: [usize; 2],
    ) -> Result<()> {
        let total = num_groups * m;
        let (a, b) = (self.rows(total, k)?, self.weights(num_groups, shape)?);
        let mut d = Tensor::<_, bf16, 2>::zeros(&self.cpu, [total, n])?;
        let layout: Vec<i32> = (0..total).map(|row| (row / m) as i32).collect();
        let layout = Tensor::from_host(&self.cpu, &layout, [total])?;
        let cost = GemmShape { num_groups, ..GemmShape::new(GemmKind::Contiguous, m, n, k) }.cost();
        let name = format!("{num_groups} x m{m} n{n} k{k}");
        common::line("fp8 contiguous", &name, Work::from(cost), Limit::Fma, || {
            let operands = Operands::Fp8 { a: a.view(), b: b.view() };
            let out = GemmOut::Bf16(d.view_mut());
            let args = GroupedGemmArgs::new(operands, GroupRows::PerRow(layout.view()), out);
            let args = args.expect("shapes agree");
            self.cpu.m_grouped_gemm_nt_contiguous(&self.stream, args).expect("a product");
        });
        Ok(())
    }

    /// `m` rows in each group; all weights together exceed every cache.
    fn fp8_masked(&self, num_groups: usize, m: usize, shape @ [n, k]: [usize; 2]) -> Result<()> {
        let (a, b) = (self.rows(num_groups * m, k)?, self.weights(num_groups, shape)?);
        let mut d = Tensor::<_, bf16, 3>::zeros(&self.cpu, [num_groups, m, n])?;
        let masked_m = Tensor::from_host(&self.cpu, &vec![m as i32; num_groups], [num_groups])?;
        let num_flops = 2 * num_groups * m * n * k;
        let work = Work { num_flops, num_bytes: num_groups * n * k };
        let name = format!("{num_groups} x m{m} n{n} k{k}");
        common::line("fp8 masked, cold", &name, work, Limit::Read, || {
            let a = a.view().split_rows(num_groups).expect("equal groups");
            let operands = Operands::Fp8 { a, b: b.view() };
            let rows = MaskedRows { masked_m: masked_m.view(), expected_m: m };
            let args = MaskedGemmArgs::new(operands, rows, GemmOut::Bf16(d.view_mut()));
            let args = args.expect("shapes agree");
            self.cpu.m_grouped_gemm_nt_masked(&self.stream, args).expect("a product");
        });
        Ok(())
    }

    fn fp8_k_grouped(&self, [m, n]: [usize; 2], ks: &[usize]) -> Result<()> {
        let k: usize = ks.iter().sum();
        let operand = |rows: usize| -> Result<QuantTensor<Cpu, 1>> {
            Ok(QuantTensor {
                values: Tensor::from_host(&self.cpu, &codes(rows * k), [rows * k])?,
                scales: Tensor::from_host(&self.cpu, &vec![0.5; rows * k / 128], [rows * k / 128])?,
            })
        };
        let (a, b) = (operand(m)?, operand(n)?);
        let mut d = Tensor::<_, f32, 3>::zeros(&self.cpu, [ks.len(), m, n])?;
        let group = |&k: &usize| GemmShape::new(GemmKind::KGrouped, m, n, k).cost();
        let work = Work::from(ks.iter().map(group).sum::<Cost>());
        common::line("fp8 k-grouped", &format!("m{m} n{n} k{ks:?}"), work, Limit::Fma, || {
            let operands = KGroupedOperands::Fp8 { a: a.view(), b: b.view() };
            let args = KGroupedGemmArgs::new(operands, ks, d.view_mut()).expect("shapes agree");
            self.cpu.k_grouped_gemm_nt_contiguous(&self.stream, args).expect("a product");
        });
        Ok(())
    }
}
