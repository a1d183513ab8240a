//! Products against f64 oracles, and the laws that hold bitwise.

mod accuracy;
mod bits;
mod grouped;
mod values;

use half::bf16;
use moekit_testkit::matrix::Matrix;
use moekit_testkit::quant::{self, Quantised, ScaleFormat};
use moekit_testkit::rng::Rng;
use moekit_testkit::{gemm as oracle, inputs};

use super::*;

/// Every level that this processor has.
fn levels() -> impl Iterator<Item = SimdLevel> {
    SimdLevel::ALL.into_iter().filter(|&level| level <= SimdLevel::detect())
}

/// A quantised operand as the code under test sees it.
fn fp8(q: &Quantised) -> Fp8Mat<'_> {
    let [_, num_scale_cols] = q.scale_shape();
    Fp8Mat {
        codes: &q.codes,
        row_stride: q.cols,
        scales: ScaleMat {
            data: &q.scales,
            rows_per_scale: if q.gran_rows == 1 { RowsPerScale::One } else { RowsPerScale::Block },
            row_stride: num_scale_cols,
            kblock_stride: 1,
        },
    }
}

fn bf16_mat(values: &[bf16], k: usize) -> Bf16Mat<'_> {
    Bf16Mat { values, row_stride: k }
}

/// Activations `[m, k]` and weights `[n, k]`, quantised as an MoE layer does.
fn fp8_operands(seed: u64, Extents { m, n, k }: Extents) -> (Quantised, Quantised) {
    let mut rng = Rng::new(seed);
    let x = inputs::normal(&mut rng, m * k, 1.0);
    let w = inputs::weights(&mut rng, [n, k]);
    (quant::per_token(&x, [m, k], ScaleFormat::F32), quant::per_block(&w, [n, k], ScaleFormat::F32))
}

fn bf16_values(seed: u64, len: usize) -> Vec<bf16> {
    let values = inputs::normal(&mut Rng::new(seed), len, 1.0);
    values.into_iter().map(bf16::from_f32).collect()
}

/// A dense FP32 product; D starts as NaN.
fn dense<M: GemmOperand>(level: SimdLevel, a: M, b: M, extents: Extents) -> Vec<f32> {
    let mut d = vec![f32::NAN; extents.m * extents.n];
    gemm_nt(level, a, b, (OutMat::F32(&mut d), extents.n), extents);
    d
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

/// Panics at the first element that differs in any bit.
#[track_caller]
fn assert_same_bits(what: &str, got: &[f32], want: &[f32]) {
    let mut pairs = got.iter().zip(want).enumerate();
    let different = pairs.find(|(_, (got, want))| got.to_bits() != want.to_bits());
    assert_eq!(got.len(), want.len(), "{what}: lengths");
    assert!(different.is_none(), "{what}: element, (got, want) = {different:?}");
}
