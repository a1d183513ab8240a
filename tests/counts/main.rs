//! Gates on what the kernels move, counted by the virtual GPU: bytes, sectors, bank conflicts. Without
//! it they are left out, and say so.

mod gemm;
#[path = "../common/gemm_configs.rs"]
mod gemm_configs;
mod overlap;
mod table;
#[path = "../common/vgpu_counts.rs"]
mod vgpu_counts;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};
use moekit::backend::cuda::Cuda;
use moekit::moe::Rows;
use moekit::moe::quant::{QuantizeArgs, ScaleFormat};
use moekit::num::bf16;
use moekit::tensor::{QuantTensor, ScaleLayout, Tensor};
use moekit::{Backend, Result};
use serde_json::Value;

fn main() -> ExitCode {
    let cuda = Cuda::new(0);
    let reason = match &cuda {
        Ok(_) if vgpu_counts::can_count() => None,
        Ok(_) => Some("the driver is not the virtual GPU's".to_owned()),
        Err(error) => Some(error.to_string()),
    };
    if let Some(reason) = &reason {
        eprintln!("left out: all that counts ({reason})");
    }
    let cuda = cuda.ok();
    let case = |name: &str, run: fn(&Cuda) -> Result<()>| {
        let cuda = cuda.clone();
        let run = move || Ok(run(&cuda.ok_or("there is no driver")?)?);
        Trial::test(name, run).with_ignored_flag(reason.is_some())
    };
    let trials = vec![
        case("quantisation_reads_and_writes_every_byte_once", quantisation_moves_bytes_once),
        case("counts_are_the_same_in_every_run", counts_repeat),
        case("products_move_what_their_blocks_need", gemm::products_move_what_their_blocks_need),
        case(
            "promotion_hides_behind_the_other_warpgroups_products",
            overlap::promotion_hides_behind_the_other_warpgroups_products,
        ),
    ];
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

/// Tokens and hidden; the last block of a row is short.
const SHAPE: [usize; 2] = [37, 7168 + 64];

fn quantise(cuda: &Cuda) -> Result<Value> {
    let x = Tensor::<_, bf16, 2>::zeros(cuda, SHAPE)?;
    let mut out = QuantTensor::zeros_per_row(cuda, SHAPE, ScaleLayout::MnMajor)?;
    let stream = cuda.stream()?;
    let (result, mut counts) = vgpu_counts::counted(|| {
        let args = QuantizeArgs::new(x.view(), out.view_mut(), ScaleFormat::Fp32, Rows::All)?;
        cuda.quantize(&stream, args)?;
        cuda.check(&stream)
    });
    result?;
    counts.retain(|it| it["kernel"] == "quantize_bf16");
    assert_eq!(counts.len(), 1, "one launch: {counts:?}");
    Ok(counts.remove(0))
}

fn number(value: &Value) -> usize {
    value.as_u64().unwrap_or_else(|| panic!("{value} should be a count")) as usize
}

fn quantisation_moves_bytes_once(cuda: &Cuda) -> Result<()> {
    let launch = quantise(cuda)?;
    let [m, k] = SHAPE;
    let (codes, scales) = (m * k, 4 * m * k.div_ceil(128));
    assert_eq!(number(&launch["bytes"]["global"]["read"]), 2 * m * k, "BF16, once");
    assert_eq!(number(&launch["bytes"]["global"]["written"]), codes + scales, "codes and scales");
    assert_eq!(number(&launch["bank_conflicts"]), 0);
    assert_eq!(launch["bytes"].get("local"), None, "no spills");
    // Two accesses of 16 bytes for a thread's 32: each touches a sector that the other uses too.
    let sectors = number(&launch["global_sectors"]);
    assert!(sectors <= (4 * m * k + codes).div_ceil(32) + scales, "{sectors} sectors");
    Ok(())
}

fn counts_repeat(cuda: &Cuda) -> Result<()> {
    let (mut first, mut second) = (quantise(cuda)?, quantise(cuda)?);
    for launch in [&mut first, &mut second] {
        // The number of the launch differs.
        launch["launch"].take();
    }
    assert_eq!(first, second);
    Ok(())
}
