//! What the tensor cores do while a warpgroup adds scaled sums to those of the blocks of K before: in the virtual GPU's
//! timeline, another warpgroup's products. All of it stands in `overlap.csv` too, which `MOEKIT_BLESS=1 cargo xtask
//! test` writes anew.

use std::fmt::Write as _;

use moekit::backend::cuda::Cuda;
use moekit::backend::cuda::heuristics::{Cluster, GemmConfig};
use moekit::gemm::{GemmFormat, GemmOut, fp8_gemm_nt};
use moekit::num::{E4M3, bf16, ceil_div};
use moekit::tensor::{QuantTensor, Tensor};
use moekit::{Backend, Result};
use serde_json::Value;

use crate::{gemm_configs, number, table, vgpu_counts};

const TABLE: &str = include_str!("overlap.csv");
const FILE: &str = "tests/counts/overlap.csv";

const K: usize = 2048;
/// Of the cycles in which a warp issues instructions between two blocks' products, those that products of the other
/// warpgroup hide; and of all cycles from the first product to the last, those with a product.
const LEAST_HIDDEN: f64 = 0.5;
const LEAST_BUSY: f64 = 0.8;

/// One block of every tile with two warpgroups of tokens.
pub fn promotion_hides_behind_the_other_warpgroups_products(cuda: &Cuda) -> Result<()> {
    let mut text = String::from(
        "# Written by: MOEKIT_BLESS=1 cargo xtask test; see overlap.rs. Cycles of the four tensor cores.\n\
         product,cycles,busy,behind,hidden\n",
    );
    let is_meant =
        |it: &GemmConfig| !it.tile.swap_ab && it.cluster == Cluster::Single && it.num_stages > 2;
    let configs = gemm_configs::all(GemmFormat::Fp8).into_iter();
    for (name, config) in configs.filter(|(_, config)| is_meant(config)) {
        let tensor = tensor_use(&cuda.with_gemm_config(config), &config)?;
        let [cycles, busy, behind, hidden] =
            ["cycles", "busy", "behind", "hidden"].map(|field| number(&tensor[field]));
        writeln!(text, "{name},{cycles},{busy},{behind},{hidden}").expect("a String takes all");
        let share = |part: usize, whole: usize| part as f64 / whole as f64;
        assert!(share(busy, cycles) >= LEAST_BUSY, "{name}: busy in {busy} of {cycles} cycles");
        assert!(share(hidden, behind) >= LEAST_HIDDEN, "{name}: {hidden} of {behind} are hidden");
    }
    table::compare(FILE, TABLE, &text);
    Ok(())
}

/// Of a launch of one block.
fn tensor_use(cuda: &Cuda, config: &GemmConfig) -> Result<Value> {
    let stream = cuda.stream()?;
    let (m, n) = (config.tile.block_m, config.tile.block_n);
    let operand = |rows: usize, scale_rows: usize| -> Result<QuantTensor<Cuda, 2>> {
        Ok(QuantTensor {
            values: Tensor::<_, E4M3, 2>::zeros(cuda, [rows, K])?,
            scales: Tensor::zeros(cuda, [scale_rows, ceil_div(K, 128)])?,
        })
    };
    let (a, b) = (operand(m, m)?, operand(n, ceil_div(n, 128))?);
    let mut d = Tensor::<_, bf16, 2>::zeros(cuda, [m, n])?;
    let (result, mut counts) = vgpu_counts::counted(|| {
        fp8_gemm_nt(cuda, &stream, a.view(), b.view(), GemmOut::Bf16(d.view_mut()))?;
        cuda.check(&stream)
    });
    result?;
    counts.retain(|it| it["kernel"].as_str().is_some_and(|kernel| kernel.starts_with("gemm")));
    assert_eq!(counts.len(), 1, "one launch: {counts:?}");
    Ok(counts.remove(0)["timeline"]["tensor"].take())
}
