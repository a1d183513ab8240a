//! The conformance cases: one case, every backend.
//!
//! `cargo test --test conformance -- [--backend cpu|vgpu|gpu] [--stage gate] [--json] [--timing [--divide N]] [libtest arguments]`
//!
//! `--timing` prints a table of times after the cases; `--divide` makes its shapes smaller.

mod case;
mod combine;
mod dispatch;
mod dispatch_edges;
mod gate;
mod gemm;
mod gemm_bf16;
#[path = "../common/gemm_configs.rs"]
mod gemm_configs;
mod gemm_groups;
mod gemm_swiglu;
mod gemm_weights;
mod json;
mod layer;
#[path = "../common/moe_model.rs"]
mod moe_model;
mod plan;
mod quant;
mod quant_layout;
mod ranks;
mod strided;
mod swiglu;
mod tensors;
mod timing;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Failed, Trial};
use moekit::backend::SimdLevel;
use moekit::backend::cuda::Cuda;
use moekit::backend::cuda::heuristics::GemmConfig;
use moekit::gemm::GemmFormat;
use moekit::{Backend, Cpu};

use case::{Case, NamedCase};

/// Every stage with its cases, for any backend.
fn stages<B: Backend>() -> Vec<(&'static str, Vec<Case<B>>)> {
    vec![
        ("tensors", tensors::cases()),
        ("gate", gate::cases()),
        ("plan", plan::cases()),
        ("dispatch", [dispatch::cases(), dispatch_edges::cases()].concat()),
        ("combine", combine::cases()),
        ("quant", [quant::cases(), quant_layout::cases()].concat()),
        ("swiglu", swiglu::cases()),
        (
            "gemm",
            [gemm::cases(), gemm_groups::cases(), gemm_bf16::cases(), gemm_weights::cases()]
                .concat(),
        ),
        ("gemm_swiglu", gemm_swiglu::cases()),
        ("layer", layer::cases()),
    ]
}

fn main() -> ExitCode {
    let options = match Options::parse(std::env::args()) {
        Ok(options) => options,
        Err(problem) => {
            eprintln!("conformance: {problem}");
            return ExitCode::from(2);
        }
    };
    let mut cuda = None;
    let cases = match options.backend.as_str() {
        "cpu" => cpu_cases(&options),
        "vgpu" | "gpu" => match Cuda::new(0) {
            Ok(opened) => cuda_cases(cuda.insert(opened), &options),
            Err(error) => {
                eprintln!("conformance: backend `{}` cannot be used: {error}", options.backend);
                return ExitCode::from(2);
            }
        },
        other => {
            eprintln!("conformance: no backend is named `{other}`; known: cpu, vgpu, gpu");
            return ExitCode::from(2);
        }
    };
    if cases.is_empty() {
        eprintln!("conformance: no stage is named {:?}", options.stage);
        return ExitCode::from(2);
    }
    if options.json {
        return json::run(&options.backend, &options.libtest, cases);
    }
    let exit_code = run(&options, cases);
    if !options.is_timed {
        return exit_code;
    }
    let timed = match &cuda {
        Some(cuda) => timing::print_cuda(cuda, options.timing()),
        None => timing::print_cpu(options.timing()),
    };
    match timed {
        Ok(()) => exit_code,
        Err(error) => {
            eprintln!("conformance: the timing table broke off: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options, cases: Vec<NamedCase>) -> ExitCode {
    let trial =
        |case: NamedCase| Trial::test(case.name, move || (case.run)().map_err(Failed::from));
    let trials = cases.into_iter().map(trial).collect();
    libtest_mimic::run(&options.libtest, trials).exit_code()
}

/// The cpu backend once per SIMD level that this processor has.
fn cpu_cases(options: &Options) -> Vec<NamedCase> {
    SimdLevel::ALL
        .into_iter()
        .filter_map(|simd| Some((simd, Cpu::with_simd(simd).ok()?)))
        .flat_map(|(simd, cpu)| named_cases(&format!("cpu-{simd}"), &cpu, options))
        .collect()
}

/// The CUDA backend on whatever the driver drives, and its products once more with every compiled kernel.
fn cuda_cases(cuda: &Cuda, options: &Options) -> Vec<NamedCase> {
    let mut cases = named_cases(&options.backend, cuda, options);
    let with_configs = |configs: Vec<(String, GemmConfig)>, names: &'static [&str]| {
        let all = configs.into_iter().flat_map(move |(name, config)| {
            let prefix = format!("{}-{name}", options.backend);
            let config = GemmConfig { num_sms: NUM_CTAS, ..config };
            named_cases(&prefix, &cuda.with_gemm_config(config), options)
        });
        all.filter(|case| names.iter().any(|name| case.name.ends_with(name)))
    };
    for (format, names, of_split) in [
        (GemmFormat::Fp8, FP8_CASES, FP8_SPLIT_CASES),
        (GemmFormat::Bf16, BF16_CASES, BF16_SPLIT_CASES),
    ] {
        cases.extend(with_configs(gemm_configs::all(format), names));
        cases.extend(with_configs(gemm_configs::some_split(format), of_split));
    }
    cases.extend(with_configs(gemm_configs::all_swiglu(), SWIGLU_CASES));
    cases
}

/// The cases that meet every part of an FP8 product's kernel.
const FP8_CASES: &[&str] = &[
    "fp8_products_of_every_shape_agree_with_f64",
    "::groups_of_every_pattern_agree_with_f64",
    "masked_groups_of_every_size_agree_with_f64",
    "a_row_has_the_same_bits_in_every_layout",
    "weighted_fp8_rows_have_the_bits_of_sums_times_weights",
];
/// Of a BF16 product's.
const BF16_CASES: &[&str] = &[
    "bf16_products_of_every_shape_agree_with_f64",
    "bf16_groups_of_every_pattern_agree_with_f64",
    "masked_rows_beyond_the_count_are_left_alone",
    "a_bf16_row_has_the_same_bits_in_any_company",
    "weighted_bf16_rows_have_the_bits_of_sums_times_weights",
];
/// Of an FP8 product's that activates.
const SWIGLU_CASES: &[&str] = &[
    "activated_groups_have_the_bits_of_the_two_stages",
    "activated_masked_groups_have_the_bits_of_the_two_stages",
];
/// Of products whose K is cut, which add their parts' sums up in any layout, to any kind of D.
const FP8_SPLIT_CASES: &[&str] = &[
    "fp8_products_of_every_shape_agree_with_f64",
    "::groups_of_every_pattern_agree_with_f64",
    "weighted_fp8_rows_have_the_bits_of_sums_times_weights",
    "::products_accumulate_into_fp32",
    "::a_row_has_the_same_bits_in_any_company",
];
const BF16_SPLIT_CASES: &[&str] = &[
    "bf16_products_of_every_shape_agree_with_f64",
    "bf16_groups_of_every_pattern_agree_with_f64",
    "weighted_bf16_rows_have_the_bits_of_sums_times_weights",
    "::bf16_gradients_are_added_to_d",
];
/// CTAs of products that are run with every kernel: so few that each takes block after block.
const NUM_CTAS: usize = 4;

fn named_cases<B: Backend>(prefix: &str, backend: &B, options: &Options) -> Vec<NamedCase> {
    let mut named = Vec::new();
    for (stage, cases) in stages::<B>() {
        if options.stage.as_deref().is_some_and(|wanted| wanted != stage) {
            continue;
        }
        for (case, run) in cases {
            let backend = backend.clone();
            let run = move || {
                std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run(&backend)))
                    .map_err(|panic| message(&*panic))
            };
            let name = format!("{prefix}::{stage}::{case}");
            named.push(NamedCase { name, stage, run: Box::new(run) });
        }
    }
    named
}

fn message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("panicked").to_owned()
}

/// Our own options, and the rest for the test harness.
struct Options {
    backend: String,
    stage: Option<String>,
    json: bool,
    is_timed: bool,
    /// Extents of the timing table are divided by this.
    divisor: usize,
    libtest: Arguments,
}

impl Options {
    fn parse(args: impl Iterator<Item = String>) -> Result<Self, String> {
        let (mut backend, mut stage, mut json) = ("cpu".to_owned(), None, false);
        let (mut is_timed, mut divisor) = (false, 1);
        let mut rest = Vec::new();
        let mut args = args;
        while let Some(arg) = args.next() {
            let mut value = || args.next().ok_or(format!("{arg} needs a value"));
            match arg.as_str() {
                "--backend" => backend = value()?,
                "--stage" => stage = Some(value()?),
                "--json" => json = true,
                "--timing" => is_timed = true,
                "--divide" => {
                    let text = value()?;
                    divisor = text.parse().ok().filter(|&number| number > 0).ok_or_else(|| {
                        format!("--divide is `{text}`, expected a number, at least 1")
                    })?;
                }
                _ => rest.push(arg),
            }
        }
        if is_timed && json {
            return Err("--timing and --json exclude each other".to_owned());
        }
        Ok(Self { backend, stage, json, is_timed, divisor, libtest: Arguments::from_iter(rest) })
    }

    fn timing(&self) -> timing::Options<'_> {
        timing::Options { stage: self.stage.as_deref(), divisor: self.divisor }
    }
}
