//! A module made ready to run: names resolved, calls inlined, instructions flat and typed, registers
//! shared by values that do not live at the same time.

mod allocate;
mod alu;
mod atomics;
mod builder;
mod calls;
mod class;
mod control;
mod convert;
mod copies;
pub(crate) mod engine;
mod fences;
mod functions;
pub(crate) mod inst;
mod layout;
mod liveness;
mod loader;
pub(crate) mod matrix;
mod mbarrier;
mod memory;
mod moves;
mod multimem;
mod operands;
mod scope;
mod special;
mod tensor;
mod warp;

pub(crate) use class::class_of;
pub(crate) use inst::{Inst, Reg};
pub(crate) use layout::{GlobalVariable, Pointer};
pub(crate) use mbarrier::PENDING_MASK;
pub(crate) use special::Special;

use std::collections::{BTreeMap, HashMap};

use crate::ops::Class;
use crate::ptx::SyntaxError;

/// First byte of the shared window in the generic address space; 4 GiB long.
pub(crate) const SHARED_WINDOW: u64 = 0x80_0000_0000;
/// First byte of the local window; 4 GiB long.
pub(crate) const LOCAL_WINDOW: u64 = 0x81_0000_0000;
/// First byte of the window of kernel parameters; 4 GiB long.
pub(crate) const PARAM_WINDOW: u64 = 0x82_0000_0000;
/// Length of each window.
pub(crate) const WINDOW_BYTES: u64 = 1 << 32;
/// From here on, the parameter space holds the parameters of inlined functions, which lie in local
/// memory.
pub(crate) const INLINED_PARAMS: u32 = 0x4000_0000;
/// Shared memory below this belongs to the system, as on sm_90.
pub(crate) const RESERVED_SHARED: u32 = 1024;

/// Why a module was not loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The text is no PTX.
    #[error(transparent)]
    Syntax(#[from] SyntaxError),
    /// All that this machine lacks, or that makes no sense, in order of line.
    #[error("{}", list(.0))]
    Unsupported(Vec<Unsupported>),
}

/// An instruction or declaration that the machine cannot run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsupported {
    /// Line in the PTX.
    pub line: u32,
    /// The instruction or declaration.
    pub instruction: String,
    /// What is wrong with it.
    pub reason: String,
}

fn list(all: &[Unsupported]) -> String {
    let lines: Vec<String> = all
        .iter()
        .map(|it| format!("line {}: {}: `{}`", it.line, it.reason, it.instruction))
        .collect();
    lines.join("\n")
}

/// What a module holds, whether or not all of it can be run.
pub struct Survey {
    /// The kernels, without the instructions that are unsupported.
    pub kernels: Vec<Kernel>,
    /// What cannot be run, in order of line.
    pub unsupported: Vec<Unsupported>,
}

/// A parameter of a kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Param {
    /// Name in the PTX.
    pub name: String,
    /// First byte in the parameter buffer.
    pub offset: u32,
    /// Length in bytes.
    pub bytes: u32,
}

/// A loaded module.
pub struct Program {
    pub(crate) source: String,
    pub(crate) files: HashMap<u32, String>,
    pub(crate) kernels: Vec<Kernel>,
    pub(crate) globals: Vec<GlobalVariable>,
}

/// A kernel, ready to run.
pub struct Kernel {
    pub(crate) name: String,
    pub(crate) params: Vec<Param>,
    pub(crate) limits: Limits,
    pub(crate) code: Vec<Inst>,
    pub(crate) operands: Vec<Reg>,
    pub(crate) sites: Vec<Site>,
    /// Texts of the opcodes, which sites name.
    pub(crate) opcodes: Vec<String>,
    /// Registers with one value for the whole run of a warp.
    pub(crate) fixed: Vec<FixedReg>,
    /// Rows of 32 words in a warp's register file.
    pub(crate) num_rows: usize,
    pub(crate) local_bytes: u32,
    /// End of the static shared memory; dynamic shared memory starts at `dynamic_base`.
    pub(crate) static_shared_end: u32,
    pub(crate) dynamic_base: u32,
    /// A `wgmma` may be reached without a fence since its registers were used.
    pub(crate) traces_fences: bool,
}

/// `.maxntid`, `.reqntid`, `.reqnctapercluster` and their like; zero where not given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Limits {
    pub max_threads: u32,
    pub required_block: [u32; 3],
    pub required_cluster: [u32; 3],
    pub max_registers: u32,
    pub min_blocks: u32,
}

/// Where an instruction stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Site {
    /// Line in the PTX.
    pub line: u32,
    /// Index of the source file, 0 if unknown.
    pub file: u32,
    /// Line in the source file.
    pub source_line: u32,
    /// Index of the opcode's text.
    pub opcode: u32,
}

/// What a fixed register holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Fixed {
    /// The same number in all threads; all ones or zero for predicates.
    Value(u128),
    /// Address of something in memory.
    Address(Pointer),
    /// A special register.
    Special(Special),
}

/// A fixed register and its contents.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FixedReg {
    pub reg: Reg,
    pub class: Class,
    pub value: Fixed,
}

impl Program {
    /// Parses and prepares a module.
    ///
    /// # Errors
    ///
    /// [`LoadError`]: the first syntax error, or everything that is unsupported.
    pub fn load(source: &str) -> Result<Self, LoadError> {
        loader::load(source)
    }

    /// Looks a module through without making it ready to run.
    ///
    /// # Errors
    ///
    /// The first syntax error.
    pub fn survey(source: &str) -> Result<Survey, SyntaxError> {
        let (program, unsupported) = loader::prepare(source)?;
        Ok(Survey { kernels: program.kernels, unsupported })
    }

    /// The kernels, in the order of the text.
    #[must_use]
    pub fn kernels(&self) -> &[Kernel] {
        &self.kernels
    }

    /// The kernel of a name.
    #[must_use]
    pub fn kernel(&self, name: &str) -> Option<&Kernel> {
        self.kernels.iter().find(|kernel| kernel.name == name)
    }

    /// A line of the PTX without its blanks.
    pub(crate) fn line(&self, line: u32) -> &str {
        self.source.lines().nth(line.saturating_sub(1) as usize).unwrap_or("").trim()
    }
}

impl Kernel {
    /// Name in the PTX.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Parameters with their places in the parameter buffer.
    #[must_use]
    pub fn params(&self) -> &[Param] {
        &self.params
    }

    /// Bytes of the parameter buffer.
    #[must_use]
    pub fn param_bytes(&self) -> u32 {
        self.params.last().map_or(0, |param| param.offset + param.bytes)
    }

    /// Bytes of shared memory that the kernel declares itself.
    #[must_use]
    pub fn static_shared_bytes(&self) -> u32 {
        self.static_shared_end - RESERVED_SHARED
    }

    /// Bytes of local memory of each thread.
    #[must_use]
    pub fn local_bytes(&self) -> u32 {
        self.local_bytes
    }

    /// Rows of 32 words that a warp's registers take, constants included.
    #[must_use]
    pub fn num_register_rows(&self) -> usize {
        self.num_rows
    }

    /// Registers of a thread when `setmaxnreg` begins; 0 if the kernel does not bound its threads.
    pub(crate) fn registers_per_thread(&self) -> u32 {
        let Limits { max_threads, max_registers, min_blocks, .. } = self.limits;
        match (max_registers, max_threads) {
            (0, 0) => 0,
            (0, threads) => {
                let share = 65536 / (threads.next_multiple_of(32) * min_blocks.max(1)).max(1);
                (share & !7).min(256)
            }
            (registers, _) => registers.next_multiple_of(8).min(256),
        }
    }

    /// Instructions after inlining.
    #[must_use]
    pub fn num_instructions(&self) -> usize {
        self.code.iter().filter(|inst| inst.is_head).count()
    }

    /// Instructions after inlining, by class: [`Tally::classes`](crate::Tally::classes) names them.
    #[must_use]
    pub fn instruction_mix(&self) -> BTreeMap<&'static str, usize> {
        let mut mix = BTreeMap::new();
        for (inst, site) in self.code.iter().zip(&self.sites) {
            if inst.is_head {
                *mix.entry(class_of(&self.opcodes[site.opcode as usize])).or_default() += 1;
            }
        }
        mix
    }

    /// Blocks of a cluster, from `.reqnctapercluster`; `None` if the kernel does not say.
    #[must_use]
    pub fn required_cluster(&self) -> Option<[u32; 3]> {
        let extents = self.limits.required_cluster;
        (extents != [0; 3]).then_some(extents)
    }

    /// Most threads of a block, from `.maxntid` or `.reqntid`; 1024 if the kernel does not say.
    #[must_use]
    pub fn max_threads(&self) -> u32 {
        if self.limits.max_threads == 0 { 1024 } else { self.limits.max_threads }
    }
}
