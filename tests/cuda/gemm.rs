//! Launches of products that their shape would not get.

use libtest_mimic::Failed;
use moekit::backend::cuda::Cuda;
use moekit::backend::cuda::heuristics::{Cluster, GemmConfig, GemmTile};
use moekit::gemm::{GemmFormat, GemmOut, GroupRows, fp8_gemm_nt, m_grouped_fp8_gemm_nt_contiguous};
use moekit::num::E4M3;
use moekit::tensor::{Layout, QuantRef, QuantTensor, Tensor, TensorRef};
use moekit::{Backend, Result};

/// A launch of 128 x 128 tiles.
fn gemm_config(cluster: Cluster, num_stages: usize) -> GemmConfig {
    GemmConfig {
        format: GemmFormat::Fp8,
        tile: GemmTile { block_m: 128, block_n: 128, swap_ab: false },
        block_k: 128,
        num_math_warpgroups: 2,
        num_stages,
        cluster,
        split_k: 1,
        num_sms: 132,
        smem_bytes: 0,
    }
}

/// E4M3 codes and scales that follow from their places.
fn quantised(
    cuda: &Cuda,
    [rows, k]: [usize; 2],
    rows_per_scale: usize,
) -> Result<QuantTensor<Cuda, 2>> {
    let codes: Vec<E4M3> = (0..rows * k).map(|at| E4M3((at * 37 % 251 % 120) as u8)).collect();
    let shape = [rows.div_ceil(rows_per_scale), k.div_ceil(128)];
    let scales: Vec<f32> = (0..shape[0] * shape[1]).map(|at| 0.01 + (at % 7) as f32).collect();
    let values = Tensor::from_host(cuda, &codes, [rows, k])?;
    Ok(QuantTensor { values, scales: Tensor::from_host(cuda, &scales, shape)? })
}

pub fn pairs_along_m_have_the_same_bits(cuda: &Cuda) -> Result<(), Failed> {
    // Three blocks high: the last pair has one.
    let ([m, n, k], stream) = ([300, 144, 400], cuda.stream()?);
    let (a, b) = (quantised(cuda, [m, k], 1)?, quantised(cuda, [n, k], 128)?);
    let product = |cluster| -> Result<Vec<f32>> {
        let cuda = cuda.with_gemm_config(gemm_config(cluster, 3));
        let mut d = Tensor::<_, f32, 2>::zeros(&cuda, [m, n])?;
        fp8_gemm_nt(&cuda, &stream, a.view(), b.view(), GemmOut::F32(d.view_mut()))?;
        d.to_host(&cuda)
    };
    let bits = |d: Vec<f32>| d.into_iter().map(f32::to_bits).collect::<Vec<_>>();
    let want = bits(product(Cluster::Single)?);
    assert!(want.iter().all(|&bits| bits != 0), "nothing was computed");
    assert_eq!(bits(product(Cluster::AlongM)?), want);
    assert_eq!(bits(product(Cluster::AlongN)?), want);
    Ok(())
}

pub fn impossible_launches_are_refused(cuda: &Cuda) -> Result<(), Failed> {
    let stream = cuda.stream()?;
    let (a, b) = (quantised(cuda, [3, 16], 1)?, quantised(cuda, [16, 16], 128)?);
    let mut d = Tensor::<_, f32, 2>::zeros(cuda, [3, 16])?;
    let endless = cuda.with_gemm_config(gemm_config(Cluster::Single, 17));
    let out = GemmOut::F32(d.view_mut());
    let refused = fp8_gemm_nt(&endless, &stream, a.view(), b.view(), out);
    let error = refused.expect_err("there are 16 barriers").to_string();
    assert_eq!(error, "gemm_nt: `config` is 17, expected a ring of 2 to 16 stages");

    for (config, why) in [
        (
            GemmConfig { split_k: 3, ..gemm_config(Cluster::Single, 3) },
            "3, expected K in 1, 2, 4 or 8 parts",
        ),
        (
            GemmConfig { split_k: 2, ..gemm_config(Cluster::AlongN, 3) },
            "2, expected 1, as the CTAs of a cluster share loads",
        ),
        (
            GemmConfig { split_k: 2, ..gemm_config(Cluster::Single, 3) },
            "2, expected 1, as the tile's kernel takes K whole",
        ),
    ] {
        let (cuda, out) = (cuda.with_gemm_config(config), GemmOut::F32(d.view_mut()));
        let refused = fp8_gemm_nt(&cuda, &stream, a.view(), b.view(), out);
        let error = refused.expect_err("K cannot be cut so").to_string();
        assert_eq!(error, format!("gemm_nt: `config.split_k` is {why}"));
    }

    let rows = Tensor::from_host(cuda, &[0, 0, 0], [3])?;
    let pairs = cuda.with_gemm_config(gemm_config(Cluster::AlongM, 3));
    let (out, rows) = (GemmOut::F32(d.view_mut()), GroupRows::PerRow(rows.view()));
    // SAFETY: the same elements, with a dimension of extent 1 in front.
    let b = unsafe {
        QuantRef {
            values: TensorRef::from_raw(b.values.view().as_ptr(), Layout::row_major([1, 16, 16])),
            scales: TensorRef::from_raw(b.scales.view().as_ptr(), Layout::row_major([1, 1, 1])),
        }
    };
    let refused = m_grouped_fp8_gemm_nt_contiguous(&pairs, &stream, a.view(), b, rows, out);
    let error = refused.expect_err("the block below may be another group's").to_string();
    assert!(error.starts_with("m_grouped_gemm_nt_contiguous: `config` is 2 along M"), "{error}");
    Ok(())
}
