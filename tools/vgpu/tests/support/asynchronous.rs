//! Kernels that wait for asynchronous work, in all modes.

use vgpu::{Asynchrony, Fault, Launch, LaunchError};

use super::{Gpu, launch};

pub const HEADER: &str = ".version 8.7\n.target sm_90a\n.address_size 64\n";

pub const MODES: [Asynchrony; 6] = [
    Asynchrony::Earliest,
    Asynchrony::Latest,
    Asynchrony::Random(1),
    Asynchrony::Random(2),
    Asynchrony::Random(3),
    Asynchrony::Random(4),
];

/// A kernel `k` with two buffers in `%a` and `%b`, the thread in `%me`, 4096 bytes at `tile` and
/// mbarriers at `bar`.
pub fn kernel(body: &str) -> String {
    kernel_of("", body)
}

pub fn kernel_of(directives: &str, body: &str) -> String {
    format!(
        "{HEADER}.entry k(.param .u64 pa, .param .u64 pb) {directives} {{\n\
         .reg .b64 %a, %b, %rd<16>; .reg .b32 %me, %r<32>; .reg .pred %p<8>;\n\
         .shared .align 128 .b8 tile[4096]; .shared .align 8 .b64 bar[4];\n\
         ld.param.u64 %a, [pa];\nld.param.u64 %b, [pb];\nmov.u32 %me, %tid.x;\n\
         setp.eq.u32 %p7, %me, 0;\n{body}\nret;\n}}\n"
    )
}

/// `st b[tid] = register`.
pub fn store(register: &str) -> String {
    format!(
        "mul.wide.u32 %rd15, %me, 4;\nadd.u64 %rd15, %b, %rd15;\nst.global.u32 [%rd15], {register};\n"
    )
}

pub fn shape(mode: Asynchrony, blocks: u32, threads: u32, params: &[u64]) -> Launch {
    Launch { asynchrony: Some(mode), ..launch(blocks, threads, params) }
}

/// Runs a kernel in every mode; the answer must be `expected`.
pub fn expect(text: &str, blocks: u32, threads: u32, input: &[u32], expected: &[u32]) {
    for mode in MODES {
        let gpu = Gpu::new(text);
        let (a, b) = (gpu.upload(input), gpu.upload(&vec![0u32; expected.len()]));
        if let Err(error) = gpu.launch("k", &shape(mode, blocks, threads, &[a, b])) {
            panic!("{mode:?}: {error}");
        }
        assert_eq!(gpu.download::<u32>(b, expected.len()), expected, "{mode:?}");
    }
}

pub fn fault(text: &str, threads: u32, mode: Asynchrony) -> Fault {
    let gpu = Gpu::new(text);
    let (a, b) = (gpu.upload(&[0u32; 64]), gpu.upload(&[0u32; 64]));
    match gpu.launch("k", &shape(mode, 1, threads, &[a, b])) {
        Err(LaunchError::Fault(fault)) => *fault,
        other => panic!("expected a fault, got {other:?}"),
    }
}

/// Waits for the phase of a parity at `[bar]`.
pub fn wait(label: &str, parity: u32) -> String {
    format!(
        "${label}: mbarrier.try_wait.parity.shared::cta.b64 %p6, [bar], {parity};\n@!%p6 bra ${label};\n"
    )
}
