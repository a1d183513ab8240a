//! Matrix products: in FP8 at the shapes for which DeepGEMM has published rates, in BF16 at DeepSeek-V3's dense ones.

use moekit::backend::cuda::Cuda;
use moekit::backend::cuda::heuristics::{PUBLISHED, PublishedProduct};
use moekit::gemm::{
    GemmFormat, GemmKind, GemmOut, GemmShape, GroupRows, MaskedRows, bf16_gemm_nt, fp8_gemm_nt,
    m_grouped_fp8_gemm_nt_contiguous, m_grouped_fp8_gemm_nt_masked,
};
use moekit::num::{bf16, ceil_div};
use moekit::tensor::{QuantTensor, Tensor};
use moekit::{Backend, Result};

use super::inputs::{codes, noise_bf16};
use super::{Call, Options, Row};

/// Rows of the BF16 products, and the `[n, k]` of their weights: the router's, attention's, an expert's.
const BF16_ROWS: [usize; 2] = [64, 4096];
const BF16_WEIGHTS: [[usize; 2]; 6] =
    [[256, 7168], [2112, 7168], [24576, 1536], [7168, 16384], [4096, 7168], [7168, 2048]];

pub fn rows<B: Backend>(
    backend: &B,
    options: Options<'_>,
    print: &mut impl FnMut(Row<'_, B>),
) -> Result<()> {
    for published in &PUBLISHED {
        let [m, n, k] = published.mnk;
        let mnk = [options.extent(m, 4), options.extent(n, 16), options.extent(k, 16)];
        let product = PublishedProduct { mnk, ..*published };
        let (num_groups, [m, n, k]) = (product.num_groups, mnk);
        let (name, groups) = match product.kind {
            GemmKind::Contiguous => {
                ("m_grouped_fp8_gemm_nt_contiguous", format!("{num_groups} x "))
            }
            GemmKind::Masked => ("m_grouped_fp8_gemm_nt_masked", format!("{num_groups} x ")),
            GemmKind::Dense | GemmKind::KGrouped => ("fp8_gemm_nt", String::new()),
        };
        let shape: GemmShape = product.shape();
        print(Row {
            name,
            shape: format!("{groups}{m} x {n} x {k}"),
            cost: shape.cost(),
            published_tflops: (options.divisor == 1).then_some(product.tflops),
            call: fp8(backend, &product)?,
        });
    }
    for m in BF16_ROWS {
        for [n, k] in BF16_WEIGHTS {
            let [m, n, k] = [options.extent(m, 4), options.extent(n, 16), options.extent(k, 16)];
            print(bf16(backend, [m, n, k])?);
        }
    }
    Ok(())
}

/// Dense products of few rows, K whole and where it may be cut.
pub fn rows_of_few(
    cuda: &Cuda,
    options: Options<'_>,
    print: &mut dyn FnMut(Row<'_, Cuda>),
) -> Result<()> {
    let may_cut = cuda.with_max_split_k(8);
    for [n, k] in [[2112, 7168], [4096, 7168], [7168, 16384]] {
        for m in [1, 16, 64, 128] {
            let mnk = [options.extent(m, 1), options.extent(n, 16), options.extent(k, 16)];
            let product = PublishedProduct { mnk, ..PUBLISHED[0] };
            let [m, n, k] = mnk;
            for (cuda, name) in [(cuda, "fp8_gemm_nt"), (&may_cut, "fp8_gemm_nt, K may be cut")] {
                print(Row {
                    name,
                    shape: format!("{m} x {n} x {k}"),
                    cost: product.shape().cost(),
                    published_tflops: None,
                    call: fp8(cuda, &product)?,
                });
            }
        }
    }
    Ok(())
}

fn bf16<B: Backend>(backend: &B, [m, n, k]: [usize; 3]) -> Result<Row<'static, B>> {
    let backend = backend.clone();
    let a = Tensor::from_host(&backend, &noise_bf16(m * k), [m, k])?;
    let b = Tensor::from_host(&backend, &noise_bf16(n * k), [n, k])?;
    let mut d = Tensor::<B, bf16, 2>::zeros(&backend, [m, n])?;
    let dense = GemmShape::new(GemmKind::Dense, m, n, k);
    Ok(Row {
        name: "bf16_gemm_nt",
        shape: format!("{m} x {n} x {k}"),
        cost: GemmShape { format: GemmFormat::Bf16, ..dense }.cost(),
        published_tflops: None,
        call: Box::new(move |stream| {
            bf16_gemm_nt(&backend, stream, a.view(), b.view(), GemmOut::Bf16(d.view_mut()))
        }),
    })
}

/// Operands of random codes, and the product of them.
fn fp8<B: Backend>(backend: &B, product: &PublishedProduct) -> Result<Call<'static, B>> {
    let (num_groups, [m, n, k]) = (product.num_groups, product.mnk);
    let all_m = num_groups * m;
    let backend = backend.clone();
    let mut d = Tensor::<B, bf16, 2>::zeros(&backend, [all_m, n])?;
    let a = QuantTensor {
        values: Tensor::from_host(&backend, &codes(all_m * k), [all_m, k])?,
        scales: Tensor::from_host(
            &backend,
            &ones(all_m * ceil_div(k, 128)),
            [all_m, ceil_div(k, 128)],
        )?,
    };
    let [scale_rows, scale_cols] = [ceil_div(n, 128), ceil_div(k, 128)];
    let b = QuantTensor {
        values: Tensor::from_host(&backend, &codes(num_groups * n * k), [num_groups, n, k])?,
        scales: Tensor::from_host(
            &backend,
            &ones(num_groups * scale_rows * scale_cols),
            [num_groups, scale_rows, scale_cols],
        )?,
    };
    let counts = vec![m as i32; num_groups];
    let num_tokens = Tensor::from_host(&backend, &counts, [num_groups])?;
    let offsets: Vec<i32> = (0..=num_groups).map(|group| (group * m) as i32).collect();
    let offsets = Tensor::from_host(&backend, &offsets, [num_groups + 1])?;
    let kind = product.kind;
    Ok(Box::new(move |stream| match kind {
        GemmKind::Dense | GemmKind::KGrouped => {
            let out = GemmOut::Bf16(d.view_mut());
            fp8_gemm_nt(&backend, stream, a.view(), b.view().matrix(0)?, out)
        }
        GemmKind::Contiguous => {
            let rows = GroupRows::Offsets {
                expert_offsets: offsets.view(),
                num_recv_tokens_per_expert: num_tokens.view(),
            };
            let out = GemmOut::Bf16(d.view_mut());
            m_grouped_fp8_gemm_nt_contiguous(&backend, stream, a.view(), b.view(), rows, out)
        }
        GemmKind::Masked => {
            let rows = MaskedRows { masked_m: num_tokens.view(), expected_m: m };
            let out = GemmOut::Bf16(d.view_mut().split_rows(num_groups)?);
            let a = a.view().split_rows(num_groups)?;
            m_grouped_fp8_gemm_nt_masked(&backend, stream, a, b.view(), rows, out)
        }
    }))
}

fn ones(len: usize) -> Vec<f32> {
    vec![1.0; len]
}
