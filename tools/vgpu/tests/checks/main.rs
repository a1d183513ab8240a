//! The checkers: each has mistakes that it must find, with the right message and both places, and near
//! misses that it must leave alone.

#[path = "../support/mod.rs"]
mod support;

mod barriers;
mod proxies;
mod races;
mod values;

use support::{Gpu, launch};
use vgpu::{Asynchrony, Fault, Launch, LaunchError};

const MODES: [Asynchrony; 4] =
    [Asynchrony::Earliest, Asynchrony::Latest, Asynchrony::Random(1), Asynchrony::Random(2)];

/// A kernel `k` with two buffers in `%a` and `%b`, the thread in `%me`, whether it is the first in
/// `%p7`, 4096 bytes at `tile` and mbarriers at `bar`.
fn kernel(directives: &str, body: &str) -> String {
    format!(
        ".version 8.7\n.target sm_90a\n.address_size 64\n\
         .entry k(.param .u64 pa, .param .u64 pb) {directives} {{\n\
         .reg .b64 %a, %b, %rd<16>; .reg .b32 %me, %r<32>; .reg .pred %p<8>;\n\
         .shared .align 128 .b8 tile[4096]; .shared .align 8 .b64 bar[4];\n\
         ld.param.u64 %a, [pa];\nld.param.u64 %b, [pb];\nmov.u32 %me, %tid.x;\n\
         setp.eq.u32 %p7, %me, 0;\n{body}\nret;\n}}\n"
    )
}

/// What is launched.
#[derive(Clone, Copy)]
struct Shape {
    blocks: u32,
    threads: u32,
    directives: &'static str,
}

/// One block of two warps.
const BLOCK: Shape = Shape { blocks: 1, threads: 64, directives: "" };
/// One warp.
const WARP: Shape = Shape { threads: 32, ..BLOCK };
/// Two blocks of a warp that are no cluster.
const GRID: Shape = Shape { blocks: 2, threads: 32, directives: "" };
/// Two blocks of a warp that are a cluster.
const CLUSTER: Shape = Shape { directives: ".reqnctapercluster 2, 1, 1", ..GRID };

impl Shape {
    /// Runs a kernel with two buffers of 1024 words, the first of which has values.
    fn run(&self, body: &str, mode: Asynchrony) -> Result<(), Box<Fault>> {
        let gpu = Gpu::new(&kernel(self.directives, body));
        let values: Vec<u32> = (0..1024).collect();
        let params = [gpu.upload(&values), gpu.memory.alloc(0, 4096).expect("room")];
        let shape = launch(self.blocks, self.threads, &params);
        match gpu.launch("k", &Launch { asynchrony: Some(mode), ..shape }) {
            Ok(_) => Ok(()),
            Err(LaunchError::Fault(fault)) => Err(fault),
            Err(error) => panic!("{error}"),
        }
    }

    /// The kernel has a mistake whose report has `message` and names the two instructions, which come in
    /// this order or, with some schedules, the other way round.
    fn finds(&self, body: &str, message: &str, at: &str, earlier: &str) {
        for mode in MODES {
            let Err(fault) = self.run(body, mode) else {
                panic!("{mode:?}: nothing was found\n{body}")
            };
            assert!(fault.to_string().contains(message), "{mode:?}: {fault}");
            let place = &fault.at.as_ref().expect("a place").instruction;
            let related: Vec<&str> =
                fault.related.iter().map(|it| it.at.instruction.as_str()).collect();
            let names = |first: &str, second: &str| {
                place.contains(first) && related.iter().any(|it| it.contains(second))
            };
            let found = match earlier {
                "" => place.contains(at),
                _ => names(at, earlier) || names(earlier, at),
            };
            assert!(found, "{mode:?}: {fault}");
        }
    }

    /// The kernel has none.
    fn passes(&self, body: &str) {
        for mode in MODES {
            if let Err(fault) = self.run(body, mode) {
                panic!("{mode:?}: {fault}\n{body}");
            }
        }
    }
}

/// Thread 0 makes the mbarrier at `bar`, and all threads know.
fn make(arrivals: u32) -> String {
    format!(
        "@%p7 mbarrier.init.shared.b64 [bar], {arrivals};\nfence.mbarrier_init.release.cluster;\nbar.sync 0;\n"
    )
}

/// Waits for the phase of a parity at `[bar]`.
fn wait(label: &str, parity: u32) -> String {
    format!(
        "${label}: mbarrier.try_wait.parity.shared::cta.b64 %p6, [bar], {parity};\n@!%p6 bra ${label};\n"
    )
}
