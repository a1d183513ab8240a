//! K in parts: which sums are added, in which order, and when.

use std::ops::Range;

use libtest_mimic::Failed;
use moekit::backend::cuda::Cuda;
use moekit::backend::cuda::heuristics::{ChooseOptions, Cluster, GemmConfig, GemmTile, choose};
use moekit::cost::DeviceSpec;
use moekit::gemm::{GemmFormat, GemmKind, GemmOut, GemmShape, bf16_gemm_nt, fp8_gemm_nt};
use moekit::num::{E4M3, bf16};
use moekit::tensor::{QuantTensor, Tensor};
use moekit::{Backend, Result};

/// A launch of swapped tiles.
fn gemm_config(format: GemmFormat, [block_m, block_n]: [usize; 2], split_k: usize) -> GemmConfig {
    let tile = GemmTile { block_m, block_n, swap_ab: true };
    GemmConfig {
        format,
        tile,
        block_k: format.block_k(),
        num_math_warpgroups: tile.num_math_warpgroups(),
        num_stages: 4,
        cluster: Cluster::Single,
        split_k,
        num_sms: 132,
        smem_bytes: 0,
    }
}

/// Where parts end: whole fours of blocks where K has them, else whole blocks.
fn parts(k: usize, split_k: usize) -> Vec<Range<usize>> {
    let step = if k.div_ceil(128).is_multiple_of(4) { 512 } else { 128 };
    let num_steps = k.div_ceil(step);
    let end = |rank: usize| (num_steps * rank / split_k * step).min(k);
    (0..split_k).map(|rank| end(rank)..end(rank + 1)).collect()
}

/// Codes that follow from row and column, of some columns, and a scale for each row (or 128) and 128 of K.
fn codes(
    cuda: &Cuda,
    rows: usize,
    k: Range<usize>,
    gran_rows: usize,
) -> Result<QuantTensor<Cuda, 2>> {
    let code = |row: usize, k: usize| E4M3(((row * 7919 + k * 37) % 251 % 120) as u8);
    let values: Vec<_> = (0..rows).flat_map(|row| k.clone().map(move |k| code(row, k))).collect();
    let (blocks, num_scales) = (k.start / 128..k.end.div_ceil(128), rows.div_ceil(gran_rows));
    let scale = |row: usize, block: usize| 0.01 + ((row * 5 + block * 3) % 7) as f32;
    let scales: Vec<_> = (0..num_scales)
        .flat_map(|row| blocks.clone().map(move |block| scale(row, block)))
        .collect();
    Ok(QuantTensor {
        values: Tensor::from_host(cuda, &values, [rows, k.len()])?,
        scales: Tensor::from_host(cuda, &scales, [num_scales, blocks.len()])?,
    })
}

const N: usize = 144;

/// The product of columns `k` of both.
fn fp8_product(cuda: &Cuda, m: usize, k: Range<usize>) -> Result<Vec<f32>> {
    let stream = cuda.stream()?;
    let (a, b) = (codes(cuda, m, k.clone(), 1)?, codes(cuda, N, k, 128)?);
    let mut d = Tensor::<_, f32, 2>::zeros(cuda, [m, N])?;
    fp8_gemm_nt(cuda, &stream, a.view(), b.view(), GemmOut::F32(d.view_mut()))?;
    d.to_host(cuda)
}

/// The same of BF16 matrices.
fn bf16_product(cuda: &Cuda, m: usize, k: Range<usize>) -> Result<Vec<f32>> {
    let stream = cuda.stream()?;
    let number =
        |row: usize, k: usize| bf16::from_f32(((row * 7919 + k * 37) % 251) as f32 / 64.0 - 2.0);
    let matrix = |rows: usize| {
        let all: Vec<_> =
            (0..rows).flat_map(|row| k.clone().map(move |k| number(row, k))).collect();
        Tensor::from_host(cuda, &all, [rows, k.len()])
    };
    let (a, b) = (matrix(m)?, matrix(N)?);
    let mut d = Tensor::<_, f32, 2>::zeros(cuda, [m, N])?;
    bf16_gemm_nt(cuda, &stream, a.view(), b.view(), GemmOut::F32(d.view_mut()))?;
    d.to_host(cuda)
}

fn bits(d: &[f32]) -> Vec<u32> {
    d.iter().map(|x| x.to_bits()).collect()
}

type Product = fn(&Cuda, usize, Range<usize>) -> Result<Vec<f32>>;

/// Every tile has the sums of the parts' own products, in ascending order, in every run and for every number of rows.
fn compare(cuda: &Cuda, format: GemmFormat, product: Product) -> Result<(), Failed> {
    // Fours of blocks, the last short; blocks, the last short; fewer than parts.
    for (m, k) in [(37, 1424), (21, 1296), (9, 272)] {
        for split_k in [2, 4, 8] {
            let mut want = vec![0.0; m * N];
            for (idx, part) in parts(k, split_k).into_iter().enumerate() {
                if part.is_empty() {
                    continue;
                }
                let sums = product(cuda, m, part)?;
                let add =
                    |(want, sum): (&mut f32, f32)| *want = if idx == 0 { sum } else { *want + sum };
                want.iter_mut().zip(sums).for_each(add);
            }
            for tile in [[8, 64], [16, 128], [64, 64], [64, 128]] {
                let cuda = cuda.with_gemm_config(gemm_config(format, tile, split_k));
                let name = format!("{m} rows, K {k} in {split_k} parts, tile {tile:?}");
                let got = product(&cuda, m, 0..k)?;
                assert_eq!(bits(&got), bits(&want), "{name}");
                assert_eq!(bits(&product(&cuda, m, 0..k)?), bits(&want), "{name}, again");
                let few = product(&cuda, 3, 0..k)?;
                assert_eq!(bits(&few), bits(&want[..3 * N]), "{name}, three of the rows");
            }
        }
    }
    Ok(())
}

pub fn parts_are_added_in_order(cuda: &Cuda) -> Result<(), Failed> {
    compare(cuda, GemmFormat::Fp8, fp8_product)
}

pub fn bf16_parts_are_added_in_order(cuda: &Cuda) -> Result<(), Failed> {
    compare(cuda, GemmFormat::Bf16, bf16_product)
}

/// Backends that share a device's choices keep theirs.
pub fn k_is_cut_on_request(cuda: &Cuda) -> Result<(), Failed> {
    let (m, k) = (4, 4096);
    let shape = GemmShape {
        out: moekit::gemm::GemmOutFormat::F32,
        ..GemmShape::new(GemmKind::Dense, m, N, k)
    };
    let options = ChooseOptions { max_split_k: 4, ..ChooseOptions::default() };
    let chosen = choose(&shape, &DeviceSpec::H100_SXM, &options)?.config;
    assert_eq!(chosen.split_k, 4);
    let may_cut = cuda.with_max_split_k(4);
    let [before, cut, whole, again, forced] = [
        cuda,
        &may_cut,
        cuda,
        &may_cut,
        &cuda.with_gemm_config(gemm_config(GemmFormat::Fp8, [8, 64], 4)),
    ]
    .map(|cuda| fp8_product(cuda, m, 0..k).map(|d| bits(&d)));
    let (before, cut) = (before?, cut?);
    assert_ne!(before, cut, "sums in another order");
    assert_eq!(before, whole?, "K whole, before and after");
    assert_eq!(cut, again?, "K in parts, before and after");
    assert_eq!(cut, forced?, "K in parts, chosen and asked for");
    Ok(())
}
