//! What a launch did, counted; the same in every run of a kernel that does not poll.

use std::collections::BTreeMap;

use crate::program::inst::Op;
use crate::program::{Kernel, Program};

/// Counts of one launch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Warp instructions.
    pub instructions: u64,
    /// The same by class: `arithmetic`, `memory`, `atomic`, `warp`, `barrier`, `copy`, `matrix`, `control`.
    pub classes: BTreeMap<&'static str, u64>,
    /// The same by source file and line, where the module tells them.
    pub lines: BTreeMap<(String, u32), u64>,
    /// Bytes that threads asked for, by the space that the instruction names.
    pub bytes: BTreeMap<&'static str, u64>,
}

impl Counts {
    pub(crate) fn new(
        program: &Program,
        kernel: &Kernel,
        executed: &[u64],
        bytes: [u64; 5],
    ) -> Self {
        let mut counts = Counts::default();
        for ((inst, site), times) in kernel.code.iter().zip(&kernel.sites).zip(executed) {
            if !inst.is_head || *times == 0 {
                continue;
            }
            counts.instructions += times;
            *counts.classes.entry(class(&inst.op)).or_default() += times;
            if let Some(file) = program.files.get(&site.file) {
                *counts.lines.entry((file.clone(), site.source_line)).or_default() += times;
            }
        }
        let spaces = ["generic", "global", "shared", "local", "param"];
        counts.bytes = spaces.into_iter().zip(bytes).filter(|(_, bytes)| *bytes > 0).collect();
        counts
    }
}

fn class(op: &Op) -> &'static str {
    match op {
        Op::Map(_) | Op::Clock { .. } => "arithmetic",
        Op::Load(_) | Op::Store(_) => "memory",
        Op::Atom(_) => "atomic",
        Op::Warp(_) => "warp",
        Op::Barrier(_) | Op::Mbarrier(_) => "barrier",
        Op::Async(_) => "copy",
        Op::Matrix(_) => "matrix",
        Op::Bra(_) | Op::Exit | Op::Trap | Op::Nop | Op::Fence(_) | Op::Nanosleep | Op::SetRegisters(_) => {
            "control"
        }
        Op::Printf | Op::AssertFail => "call",
    }
}
