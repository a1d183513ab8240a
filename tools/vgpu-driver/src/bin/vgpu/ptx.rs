//! `vgpu ptx`: what a PTX file holds, and what of it cannot be run.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::{Value, json};
use vgpu::{Kernel, Program, Survey};

use crate::table::{grouped, table};
use crate::{Problem, Result, print};

#[derive(clap::Args)]
pub struct Args {
    /// The PTX
    file: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// 1 if the PTX cannot be run.
pub fn run(args: &Args) -> Result<ExitCode> {
    let source = read(&args.file)?;
    let survey = match Program::survey(&source) {
        Ok(survey) => survey,
        Err(error) => {
            eprintln!("vgpu: {}: {error}", args.file.display());
            return Ok(ExitCode::FAILURE);
        }
    };
    print(&if args.json { format!("{:#}\n", to_json(&survey)) } else { to_text(&survey) })?;
    Ok(if survey.unsupported.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn read(file: &Path) -> Result<String> {
    let bytes = std::fs::read(file).map_err(Problem::of(format!("read {}", file.display())))?;
    String::from_utf8(bytes).map_err(|_| {
        let what = "is no text, so no PTX; `cuobjdump -ptx` takes PTX out of programs and cubins";
        Problem(format!("{} {what}", file.display()))
    })
}

fn to_json(survey: &Survey) -> Value {
    let kernel = |kernel: &Kernel| {
        json!({
            "name": kernel.name(),
            "param_bytes": kernel.param_bytes(),
            "registers": kernel.num_register_rows(),
            "static_shared_bytes": kernel.static_shared_bytes(),
            "local_bytes": kernel.local_bytes(),
            "max_threads": kernel.max_threads(),
            "required_cluster": kernel.required_cluster(),
            "instructions": kernel.num_instructions(),
            "classes": kernel.instruction_mix(),
        })
    };
    let unsupported = survey
        .unsupported
        .iter()
        .map(|it| json!({ "line": it.line, "instruction": it.instruction, "reason": it.reason }));
    json!({
        "kernels": survey.kernels.iter().map(kernel).collect::<Vec<_>>(),
        "unsupported": unsupported.collect::<Vec<_>>(),
    })
}

fn to_text(survey: &Survey) -> String {
    let head = ["kernel", "instructions", "registers", "shared", "local", "params", "threads"];
    let number = |number: u32| grouped(number.into());
    let rows: Vec<Vec<String>> = survey
        .kernels
        .iter()
        .map(|kernel| {
            vec![
                kernel.name().to_owned(),
                grouped(kernel.num_instructions() as u64),
                grouped(kernel.num_register_rows() as u64),
                number(kernel.static_shared_bytes()),
                number(kernel.local_bytes()),
                number(kernel.param_bytes()),
                number(kernel.max_threads()),
            ]
        })
        .collect();
    let mut text = table(&head, &rows);
    for kernel in &survey.kernels {
        let mut mix: Vec<_> = kernel.instruction_mix().into_iter().collect();
        mix.sort_by_key(|(class, times)| (std::cmp::Reverse(*times), *class));
        let mix = mix.iter().map(|(class, times)| format!("{class} {}", grouped(*times as u64)));
        text += &format!("\n{}: {}", kernel.name(), mix.collect::<Vec<_>>().join(", "));
    }
    if !survey.kernels.is_empty() {
        text.push('\n');
    }
    if !survey.unsupported.is_empty() {
        text += &format!("\nnot supported: {}\n", survey.unsupported.len());
        for it in &survey.unsupported {
            text += &format!("  line {}: {}: `{}`\n", it.line, it.reason, it.instruction);
        }
    }
    text
}
