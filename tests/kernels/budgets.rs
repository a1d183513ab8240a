//! The machine code keeps within `budgets.csv`, as the compiler named there makes it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::OnceLock;

use libtest_mimic::{Failed, Trial};
use moekit::backend::cuda::{KERNEL_MODULES, NVCC_VERSION};
use moekit_sass::{Class, Cuobjdump, Instruction, Resources, main_loop};

use crate::root;

const TABLE: &str = include_str!("budgets.csv");
const MAIN_LOOPS: &str = include_str!("main_loops.csv");
/// Where `cargo xtask toolchain --cuda` puts the pinned compiler and its tools.
const TOOLKIT: &str = "target/toolchain/cuda/toolkit";

pub fn trials() -> Vec<Trial> {
    let cuobjdump = cuobjdump();
    if let Err(reason) = &cuobjdump {
        eprintln!("left out: the gates on machine code ({reason})");
    }
    let is_ignored = cuobjdump.is_err();
    let gate = |name: &str, check: fn(&Compiled) -> Result<(), Failed>| {
        let cuobjdump = cuobjdump.clone();
        let run = move || check(compiled(&cuobjdump?)?);
        Trial::test(name, run).with_ignored_flag(is_ignored)
    };
    vec![
        gate("the_table_lists_every_kernel_and_no_other", the_table_is_complete),
        gate("no_kernel_touches_local_memory", no_local_memory),
        gate("every_kernel_keeps_within_its_budget", budgets_are_kept),
        gate("main_loops_that_multiply_keep_within_theirs", main_loops_are_kept),
        gate("fp8_products_leave_half_of_the_issue_slots", issue_slots_are_left),
    ]
}

/// The tool, if this build's kernels come from the compiler that the table names.
fn cuobjdump() -> Result<Cuobjdump, String> {
    let pinned = TABLE.lines().next().and_then(|line| line.strip_prefix("# nvcc "));
    let pinned = pinned.ok_or("budgets.csv does not name its compiler")?;
    match NVCC_VERSION {
        Some(version) if version == pinned => {}
        Some(other) => return Err(format!("kernels compiled by nvcc {other}, not {pinned}")),
        None => return Err("no kernels in this build: `cargo xtask test` sets up nvcc".to_owned()),
    }
    let toolkit = root().join(TOOLKIT);
    Cuobjdump::in_toolkit(&toolkit).ok_or(format!("no cuobjdump in {}", toolkit.display()))
}

/// What one line of the table allows.
#[derive(Debug)]
struct Budget {
    num_registers: usize,
    shared_bytes: usize,
    num_wide_loads: usize,
    num_wide_stores: usize,
}

fn budgets() -> Result<BTreeMap<String, Budget>, Failed> {
    let rows = TABLE.lines().filter(|line| !line.starts_with('#')).skip(1);
    rows.map(|row| {
        let fields: Vec<&str> = row.split(',').collect();
        let [kernel, numbers @ ..] = &fields[..] else { return Err("an empty row".into()) };
        let numbers: Vec<usize> = numbers.iter().map(|it| it.parse()).collect::<Result<_, _>>()?;
        let [num_registers, shared_bytes, num_wide_loads, num_wide_stores] = numbers[..] else {
            return Err(format!("not four numbers: {row}").into());
        };
        let budget = Budget { num_registers, shared_bytes, num_wide_loads, num_wide_stores };
        Ok(((*kernel).to_owned(), budget))
    })
    .collect()
}

/// Every kernel of this build with what it takes and its instructions.
struct Compiled(Vec<(Resources, Vec<Instruction>)>);

/// All of them, listed once for all gates.
fn compiled(cuobjdump: &Cuobjdump) -> Result<&'static Compiled, Failed> {
    static COMPILED: OnceLock<Result<Compiled, String>> = OnceLock::new();
    let compiled = COMPILED.get_or_init(|| {
        Compiled::read(cuobjdump).map_err(|failed| failed.message().unwrap_or_default().to_owned())
    });
    compiled.as_ref().map_err(|problem| problem.clone().into())
}

impl Compiled {
    fn read(cuobjdump: &Cuobjdump) -> Result<Self, Failed> {
        let dir = tempfile::tempdir()?;
        let mut kernels = Vec::new();
        for module in KERNEL_MODULES {
            let cubin: PathBuf = dir.path().join(module.name).with_extension("cubin");
            std::fs::write(&cubin, module.cubin)?;
            for resources in cuobjdump.resources(&cubin)? {
                let instructions = cuobjdump.instructions(&cubin, &resources.kernel)?;
                kernels.push((resources, instructions));
            }
        }
        Ok(Self(kernels))
    }
}

fn the_table_is_complete(compiled: &Compiled) -> Result<(), Failed> {
    let mut compiled: Vec<_> = compiled.0.iter().map(|(it, _)| it.kernel.clone()).collect();
    compiled.sort();
    let declared = KERNEL_MODULES.iter().flat_map(|module| module.kernels);
    let mut declared: Vec<_> = declared.map(ToString::to_string).collect();
    declared.sort();
    assert_eq!(compiled, declared, "kernels in the cubins, kernels that the build lists");
    let listed: Vec<String> = budgets()?.into_keys().collect();
    assert_eq!(compiled, listed, "kernels in the cubins, kernels in budgets.csv");
    Ok(())
}

fn no_local_memory(compiled: &Compiled) -> Result<(), Failed> {
    for (resources, instructions) in &compiled.0 {
        let Resources { kernel, stack_bytes, local_bytes, .. } = resources;
        assert_eq!((*stack_bytes, *local_bytes), (0, 0), "{kernel}: stack, local memory");
        assert!(instructions.len() > 16, "{kernel}: {} instructions", instructions.len());
        let local = instructions.iter().find(|it| it.class() == Class::Local);
        assert_eq!(local.map(|it| &it.text), None, "{kernel}");
    }
    Ok(())
}

fn budgets_are_kept(compiled: &Compiled) -> Result<(), Failed> {
    let budgets = budgets()?;
    let mut problems = Vec::new();
    for (resources, instructions) in &compiled.0 {
        let kernel = &resources.kernel;
        let budget = budgets.get(kernel).ok_or(format!("{kernel} is not in budgets.csv"))?;
        let num_wide = |opcode: &str| {
            let is_wide = |it: &&Instruction| {
                it.opcode() == opcode && it.operation().split('.').any(|part| part == "128")
            };
            instructions.iter().filter(is_wide).count()
        };
        let (num_wide_loads, num_wide_stores) = (num_wide("LDG"), num_wide("STG"));
        if resources.num_registers > budget.num_registers
            || resources.shared_bytes != budget.shared_bytes
            || num_wide_loads < budget.num_wide_loads
            || num_wide_stores < budget.num_wide_stores
        {
            let Resources { num_registers, shared_bytes, .. } = resources;
            let got = format!("{num_registers},{shared_bytes},{num_wide_loads},{num_wide_stores}");
            problems.push(format!("{kernel},{got} where {budget:?}"));
        }
    }
    if problems.is_empty() { Ok(()) } else { Err(problems.join("\n").into()) }
}

fn main_loops_are_kept(compiled: &Compiled) -> Result<(), Failed> {
    let rows = MAIN_LOOPS.lines().filter(|line| !line.starts_with('#')).skip(1);
    let mut budgets: BTreeMap<&str, &str> = rows.filter_map(|row| row.split_once(',')).collect();
    let mut problems = Vec::new();
    for (resources, instructions) in &compiled.0 {
        if !instructions.iter().any(|it| it.class() == Class::Tensor) {
            continue;
        }
        let kernel = &resources.kernel;
        let main_loop = main_loop(instructions).ok_or(format!("{kernel} has no loop"))?;
        let main_loop = &instructions[main_loop];
        let stalls: usize = main_loop.iter().map(|it| usize::from(it.control.stall)).sum();
        let products = main_loop.iter().filter(|it| it.class() == Class::Tensor).count();
        let got = [main_loop.len(), stalls, products];
        let budget = budgets.remove(kernel.as_str()).unwrap_or_default();
        let most: Vec<usize> = budget.split(',').filter_map(|it| it.parse().ok()).collect();
        if most.len() != got.len() || got.iter().zip(&most).any(|(got, most)| got > most) {
            problems.push(format!("{kernel},{},{},{} where {budget}", got[0], got[1], got[2]));
        }
    }
    problems.extend(budgets.into_keys().map(|kernel| format!("{kernel} does not multiply")));
    if problems.is_empty() { Ok(()) } else { Err(problems.join("\n").into()) }
}

/// Cycles of a tensor core for a warp's rows of an E4M3 product m64n128k32.
const N128_CYCLES: usize = 64;

/// In FP8 at 128 x 128 and 256 x 128: of the cycles that a warp's products take its scheduler's tensor core, its
/// instructions take half at most. A scheduler has a warp of each math warpgroup, so the same holds for both.
fn issue_slots_are_left(compiled: &Compiled) -> Result<(), Failed> {
    for layout in ["dense", "contiguous", "masked"] {
        for tile in ["m128_n128", "m256_n128"] {
            let name = format!("gemm_fp8_{layout}_{tile}");
            let (_, instructions) = compiled
                .0
                .iter()
                .find(|(it, _)| it.kernel == name)
                .ok_or(format!("{name} is not compiled"))?;
            let main_loop = main_loop(instructions).ok_or(format!("{name} has no loop"))?;
            let main_loop = &instructions[main_loop];
            let products = main_loop.iter().filter(|it| it.class() == Class::Tensor).count();
            let (slots, cycles) = (main_loop.len(), products * N128_CYCLES);
            assert!(2 * slots <= cycles, "{name}: {slots} instructions in {cycles} cycles");
        }
    }
    Ok(())
}
