//! The experts' first product with its activation, in one stage and in two.

use moekit::gemm::{
    GemmKind, GemmOut, GemmOutFormat, GemmShape, GroupRows, MaskedRows, SwigluOut,
    m_grouped_fp8_gemm_nt_contiguous, m_grouped_fp8_gemm_nt_masked,
    m_grouped_fp8_gemm_swiglu_contiguous, m_grouped_fp8_gemm_swiglu_masked,
};
use moekit::moe::quant::ScaleFormat;
use moekit::moe::swiglu::{SwigluInput, SwigluQuantizeArgs};
use moekit::num::bf16;
use moekit::tensor::{QuantTensor, ScaleLayout, Tensor};
use moekit::{Backend, Result};

use super::inputs::codes;
use super::{Call, Options, Row};

/// Layout, groups and rows of each.
const GROUPS: [(GemmKind, usize, usize); 11] = [
    (GemmKind::Contiguous, 4, 8192),
    (GemmKind::Contiguous, 8, 4096),
    (GemmKind::Contiguous, 32, 128),
    (GemmKind::Contiguous, 8, 8),
    (GemmKind::Masked, 1, 1024),
    (GemmKind::Masked, 4, 256),
    (GemmKind::Masked, 1, 64),
    (GemmKind::Masked, 32, 2),
    (GemmKind::Masked, 32, 16),
    (GemmKind::Masked, 32, 64),
    (GemmKind::Masked, 32, 128),
];
/// Columns of gate and up together, and K.
const NK: [usize; 2] = [4096, 7168];
/// Scale of each weight's 128 x 128: products of random codes are about as large as 1.
const WEIGHT_SCALE: f32 = 5e-7;

pub fn rows<B: Backend>(
    backend: &B,
    options: Options<'_>,
    print: &mut impl FnMut(Row<'_, B>),
) -> Result<()> {
    let [n, k] = [options.extent(NK[0], 256), options.extent(NK[1], 16)];
    for (kind, num_groups, m) in GROUPS {
        let m = options.extent(m, 1);
        let layout = if kind == GemmKind::Contiguous { "contiguous" } else { "masked" };
        for is_fused in [false, true] {
            let out = if is_fused { GemmOutFormat::SwigluFp8 } else { GemmOutFormat::Bf16 };
            let shape = GemmShape { num_groups, out, ..GemmShape::new(kind, m, n, k) };
            print(Row {
                name: if is_fused { "gemm_swiglu" } else { "gemm, swiglu_quantize" },
                shape: format!("{layout} {num_groups} x {m} x {n} x {k}"),
                cost: shape.cost(),
                published_tflops: None,
                call: call(backend, &shape, is_fused)?,
            });
        }
    }
    Ok(())
}

fn call<B: Backend>(backend: &B, shape: &GemmShape, is_fused: bool) -> Result<Call<'static, B>> {
    let GemmShape { kind, num_groups, m, n, k, .. } = *shape;
    let (all_m, backend) = (num_groups * m, backend.clone());
    let a = QuantTensor {
        values: Tensor::from_host(&backend, &codes(all_m * k), [all_m, k])?,
        scales: Tensor::from_host(&backend, &vec![1.0; all_m * k / 128], [all_m, k / 128])?,
    };
    let scale_shape = [num_groups, n / 128, k / 128];
    let b_scales = vec![WEIGHT_SCALE; scale_shape.iter().product()];
    let b = QuantTensor {
        values: Tensor::from_host(&backend, &codes(num_groups * n * k), [num_groups, n, k])?,
        scales: Tensor::from_host(&backend, &b_scales, scale_shape)?,
    };
    let mut gate_up = Tensor::<B, bf16, 2>::zeros(&backend, [all_m, n])?;
    let mut act = QuantTensor::zeros_per_row(&backend, [all_m, n / 2], ScaleLayout::RowMajor)?;
    let counts = Tensor::from_host(&backend, &vec![m as i32; num_groups], [num_groups])?;
    let offsets: Vec<i32> = (0..=num_groups).map(|group| (group * m) as i32).collect();
    let offsets = Tensor::from_host(&backend, &offsets, [num_groups + 1])?;
    Ok(Box::new(move |stream| {
        let rows = GroupRows::Offsets {
            expert_offsets: offsets.view(),
            num_recv_tokens_per_expert: counts.view(),
        };
        let masked = MaskedRows { masked_m: counts.view(), expected_m: m };
        let (a, b, out) = (a.view(), b.view(), act.view_mut());
        match (kind, is_fused) {
            (GemmKind::Contiguous, true) => {
                let out = SwigluOut::new(out, ScaleFormat::Fp32);
                return m_grouped_fp8_gemm_swiglu_contiguous(&backend, stream, a, b, rows, out);
            }
            (_, true) => {
                let out = SwigluOut::new(out.split_rows(num_groups)?, ScaleFormat::Fp32);
                let a = a.split_rows(num_groups)?;
                return m_grouped_fp8_gemm_swiglu_masked(&backend, stream, a, b, masked, out);
            }
            (GemmKind::Contiguous, false) => {
                let d = GemmOut::Bf16(gate_up.view_mut());
                m_grouped_fp8_gemm_nt_contiguous(&backend, stream, a, b, rows, d)?;
            }
            (_, false) => {
                let d = GemmOut::Bf16(gate_up.view_mut().split_rows(num_groups)?);
                let a = a.split_rows(num_groups)?;
                m_grouped_fp8_gemm_nt_masked(&backend, stream, a, b, masked, d)?;
            }
        }
        let input = SwigluInput::new(gate_up.view());
        backend.swiglu_quantize(stream, SwigluQuantizeArgs::new(input, out, ScaleFormat::Fp32)?)
    }))
}
