//! `moekit moe --backend cuda`.

use std::process::Command;

use libtest_mimic::Failed;
use moekit::backend::cuda::Cuda;
use serde_json::Value;

/// Built with the feature `cli` alone.
const PROGRAM: Option<&str> = option_env!("CARGO_BIN_EXE_moekit");

/// Two ranks, each with half of the experts, in both formats and layouts of received rows.
pub fn a_layer_runs(cuda: &Cuda) -> Result<(), Failed> {
    let Some(program) = PROGRAM else {
        println!("left out: there is no command without the feature `cli`");
        return Ok(());
    };
    const ARGS: &str = "moe --backend cuda --ranks 2 --num-tokens 12 --hidden 272 \
        --intermediate-hidden 144 --num-experts 8 --num-topk 3 --steps 1 --json";
    // In BF16 the reference does not round what lies between the products. In FP8 a GPU's sums move codes
    // of the activations: see `FP8_BOUND` in tests/conformance/layer.rs.
    let runs =
        [("--dtype fp8", 8.3e-3), ("--dtype bf16", 5e-3), ("--dtype fp8 --layout masked", 8.3e-3)];
    for (more, bound) in runs {
        let args = ARGS.split_whitespace().chain(more.split_whitespace());
        let output = Command::new(program).args(args).output()?;
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{more}: {errors}");
        let report: Value = serde_json::from_slice(&output.stdout)?;
        assert_eq!(report["backend"], "cuda", "{more}");
        assert_eq!(report["device"], cuda.device_name()?, "{more}");
        let error = report["relative_error"].as_f64().unwrap_or(f64::NAN);
        assert!(error < bound, "{more}: relative error {error}");
    }
    Ok(())
}
