//! `cargo xtask sass KERNEL`: the machine code of a kernel.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use moekit_sass::{Cuobjdump, Instruction, Resources, find_loops, main_loop};
use serde::Deserialize;

use crate::cargo;
use crate::error::{Error, Result};
use crate::prerequisites;
use crate::toolchain::{self, Cuda};

#[derive(clap::Args)]
pub struct Args {
    /// Name of the kernel, such as "quantize_bf16"; without one, all are listed.
    kernel: Option<String>,
    /// Print every instruction and not the main loop alone.
    #[arg(long)]
    all: bool,
}

pub fn run(args: &Args) -> Result<ExitCode> {
    prerequisites::check(toolchain::required_tools(false, true))?;
    Cuda::ensure()?;
    let messages = cargo::step(
        "build moekit with its kernels",
        &["build", "--package", "moekit", "--lib", "--message-format=json-render-diagnostics"],
    )
    .capture()?;
    let out_dir = parse_out_dir(&messages)
        .ok_or_else(|| unexpected("cargo build", "a folder of moekit's build script", "none"))?;
    let toolkit = Cuda::toolkit_dir();
    let cuobjdump = Cuobjdump::in_toolkit(&toolkit)
        .ok_or_else(|| unexpected(&toolkit.display().to_string(), "bin/cuobjdump", "none"))?;

    let kernels = kernels(&cuobjdump, &out_dir)?;
    let Some(wanted) = &args.kernel else {
        kernels.iter().for_each(|(resources, _)| println!("{}", summary(resources)));
        return Ok(ExitCode::SUCCESS);
    };
    let Some((resources, cubin)) = kernels.iter().find(|(it, _)| it.kernel == *wanted) else {
        let known: Vec<_> = kernels.iter().map(|(it, _)| it.kernel.as_str()).collect();
        let known = known.join(", ");
        return Err(Error::Usage(format!("no kernel is named `{wanted}`; there are: {known}")));
    };
    let instructions = cuobjdump
        .instructions(cubin, wanted)
        .map_err(|problem| unexpected("cuobjdump -sass", "instructions", &problem))?;
    println!("{}", summary(resources));
    print!("{}", listing(&instructions, args.all));
    Ok(ExitCode::SUCCESS)
}

fn unexpected(what: &str, expected: &str, got: &str) -> Error {
    Error::Unexpected { what: what.to_owned(), expected: expected.to_owned(), got: got.to_owned() }
}

/// Every compiled kernel, and the cubin that holds it.
fn kernels(cuobjdump: &Cuobjdump, out_dir: &Path) -> Result<Vec<(Resources, PathBuf)>> {
    let entries = std::fs::read_dir(out_dir).map_err(Error::io("list", out_dir))?;
    let mut cubins: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    cubins.retain(|path| path.extension().is_some_and(|it| it == "cubin"));
    cubins.sort();
    let mut kernels = Vec::new();
    for cubin in cubins {
        let resources = cuobjdump.resources(&cubin);
        let resources = resources.map_err(|it| unexpected("cuobjdump", "resources", &it))?;
        kernels.extend(resources.into_iter().map(|it| (it, cubin.clone())));
    }
    Ok(kernels)
}

fn summary(resources: &Resources) -> String {
    let Resources { kernel, num_registers, stack_bytes, local_bytes, shared_bytes } = resources;
    format!(
        "{kernel:<28} {num_registers:>3} registers, {shared_bytes:>6} B shared, \
         {stack_bytes} B stack, {local_bytes} B local"
    )
}

/// The main loop (or everything), instruction by instruction, and the counts of what is printed.
fn listing(instructions: &[Instruction], all: bool) -> String {
    let whole = 0..instructions.len();
    let (title, range) = match main_loop(instructions).filter(|_| !all) {
        Some(range) => ("main loop", range),
        None => ("whole kernel", whole),
    };
    let shown = &instructions[range];
    let num_loops = find_loops(instructions).len();
    let num_all = instructions.len();
    let mut text = format!(
        "{title}: {} of {num_all} instructions, {num_loops} loops\n\
         address  wait   rd wr y stall reuse\n",
        shown.len()
    );
    for Instruction { address, text: instruction, control } in shown {
        text += &format!("{address:#07x}  {control}  {instruction}\n");
    }
    let stalls: u32 = shown.iter().map(|it| u32::from(it.control.stall)).sum();
    text += &format!("stall cycles: {stalls}\n");
    let mut counts = BTreeMap::new();
    for instruction in shown {
        *counts.entry(instruction.class()).or_insert(0) += 1;
    }
    for (class, count) in counts {
        text += &format!("{:<9} {count}\n", class.to_string());
    }
    text
}

/// The folder in which moekit's build script left the kernels.
fn parse_out_dir(messages: &str) -> Option<PathBuf> {
    #[derive(Deserialize)]
    struct BuildScript {
        package_id: String,
        out_dir: PathBuf,
    }
    // "path+file:///repository#moekit@0.1.0", or "...#0.1.0" where the folder has the name.
    let is_moekit = |id: &str| id.contains("#moekit@") || id.contains("/moekit#");
    messages
        .lines()
        .filter_map(|line| serde_json::from_str::<BuildScript>(line).ok())
        .find(|script| is_moekit(&script.package_id))
        .map(|script| script.out_dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_build_scripts_folder_is_found_among_cargos_messages() {
        let messages = concat!(
            r#"{"reason":"build-script-executed","package_id":"registry#libm@0.2","out_dir":"/a"}"#,
            "\n",
            r#"{"reason":"build-script-executed","package_id":"path+file:///r#moekit@0.1.0","out_dir":"/b"}"#,
        );
        assert_eq!(parse_out_dir(messages), Some(PathBuf::from("/b")));
    }

    #[test]
    fn a_listing_counts_what_it_shows() {
        let text = "  /*0000*/  FADD R0, R0, R1 ;  /* 0x0 */\n  /* 0x000fe20000000000 */\n\
                      /*0010*/  EXIT ;             /* 0x0 */\n  /* 0x000fea0003800000 */\n";
        let listed = listing(&moekit_sass::parse_listing(text).expect("a listing"), false);
        assert!(listed.starts_with("whole kernel: 2 of 2 instructions, 0 loops"), "{listed}");
        assert!(listed.contains("stall cycles: 6"), "{listed}");
        assert!(listed.contains("float     1") && listed.contains("control   1"), "{listed}");
    }
}
