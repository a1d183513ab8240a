//! How kernels fault, what is refused before they run, and what is reported when they are loaded.

mod support;

use support::machine::{HEADER, kernel};
use support::{Gpu, launch};
use vgpu::{FaultKind, Launch, LaunchError, LoadError, Program};

/// A fault for a body with one buffer of 16 bytes.
fn fault(body: &str, threads: u32) -> vgpu::Fault {
    let gpu = Gpu::new(&kernel(body));
    let (a, b) = (gpu.upload(&[0u32; 4]), gpu.upload(&[0u32; 4]));
    gpu.fault("k", 1, threads, &[a, b])
}

#[test]
fn an_access_out_of_bounds_names_thread_line_and_allocation() {
    let fault = fault(
        "mul.wide.u32 %rd1, %me, 4;\nadd.u64 %rd1, %a, %rd1;\nld.global.u32 %r1, [%rd1];",
        32,
    );
    let FaultKind::OutOfBounds { access, bytes: 4, hint, .. } = &fault.kind else {
        panic!("{fault}");
    };
    assert_eq!(access, "global read");
    assert!(hint.starts_with(": byte 16 of the 16 bytes at "), "{hint}");
    let at = fault.at.as_ref().unwrap();
    assert_eq!((at.thread, at.block), ([4, 0, 0], [0; 3]));
    assert_eq!(at.instruction, "ld.global.u32 %r1, [%rd1];");
    let text =
        kernel("mul.wide.u32 %rd1, %me, 4;\nadd.u64 %rd1, %a, %rd1;\nld.global.u32 %r1, [%rd1];");
    assert_eq!(text.lines().nth(at.line as usize - 1), Some("ld.global.u32 %r1, [%rd1];"));
}

#[test]
fn every_space_has_bounds() {
    let cases = [
        ("st.global.u32 [%a+16], 1;", "global write"),
        ("atom.global.add.u32 %r1, [%a+16], 1;", "global atomic"),
        ("ld.global.u64 %rd1, [%a+16];", "global read"),
        ("ld.shared.u32 %r1, [0];", "shared read"),
        (".shared .b8 s[16];\nmov.u32 %r1, s;\nst.shared.u32 [%r1+16], 1;", "shared write"),
        (".local .b8 l[16];\nmov.u32 %r1, l;\nst.local.u32 [%r1+16], 1;", "local write"),
        ("ld.param.u64 %rd1, [pb+8];", "param read"),
        ("ld.u32 %r1, [0];", "generic read"),
    ];
    for (body, expected) in cases {
        match fault(body, 1).kind {
            FaultKind::OutOfBounds { access, .. } => assert_eq!(access, expected),
            other => panic!("{body}: {other}"),
        }
    }
}

#[test]
fn misaligned_accesses_fault() {
    for body in ["ld.global.u32 %r1, [%a+2];", "ld.global.v2.u32 {%r1, %r2}, [%a+4];"] {
        assert!(matches!(fault(body, 1).kind, FaultKind::Misaligned { .. }), "{body}");
    }
}

#[test]
fn freed_memory_is_named_as_such() {
    let gpu = Gpu::new(&kernel("ld.global.u32 %r1, [%a+4];"));
    let a = gpu.upload(&[0u32; 4]);
    gpu.memory.free(a).unwrap();
    match gpu.fault("k", 1, 1, &[a, a]).kind {
        FaultKind::OutOfBounds { hint, .. } => assert!(hint.contains("were freed"), "{hint}"),
        other => panic!("{other}"),
    }
}

#[test]
fn traps_name_the_first_thread() {
    let fault = fault("setp.lt.u32 %p1, %me, 9;\n@%p1 bra $fine;\ntrap;\n$fine:", 32);
    assert_eq!(fault.kind, FaultKind::Trap);
    assert_eq!(fault.at.unwrap().thread, [9, 0, 0]);
}

#[test]
fn a_barrier_that_some_warps_never_reach_is_a_deadlock() {
    // Warp 1 waits at barrier 1, warp 0 at barrier 2.
    let body = "setp.lt.u32 %p1, %me, 32;\n@%p1 bra $low;\nbar.sync 1, 64;\nbra $end;\n\
         $low: bar.sync 2, 64;\n$end:";
    let fault = fault(body, 64);
    let FaultKind::Deadlock { waiting } = &fault.kind else { panic!("{fault}") };
    assert_eq!(waiting.len(), 2);
    assert!(waiting[0].contains("`$low: bar.sync 2, 64;`"), "{}", waiting[0]);
    assert!(waiting[0].contains("barrier 2, where 32 of 64 threads are"), "{}", waiting[0]);
    assert!(waiting[1].contains("thread (32, 0, 0)"), "{}", waiting[1]);
}

#[test]
fn a_diverged_aligned_barrier_is_a_deadlock() {
    let fault =
        fault("setp.lt.u32 %p1, %me, 9;\n@%p1 bra $end;\nbar.sync 0;\n$end: bar.warp.sync -1;", 32);
    let FaultKind::Deadlock { waiting } = &fault.kind else { panic!("{fault}") };
    assert!(waiting.iter().any(|w| w.contains("`bar.sync 0;`")), "{waiting:?}");
}

#[test]
fn barriers_are_used_by_their_rules() {
    for (body, expected) in [
        ("bar.sync 16;", "barrier 16 of 16"),
        ("bar.sync 1, 48;", "not a multiple of 32"),
        ("vote.sync.ballot.b32 %r1, 1, 0x2;", "outside of its own member mask"),
    ] {
        match fault(body, 1).kind {
            FaultKind::Misuse(message) => assert!(message.contains(expected), "{message}"),
            other => panic!("{body}: {other}"),
        }
    }
}

#[test]
fn an_endless_loop_runs_out_of_fuel() {
    let gpu = Gpu::new(&kernel("$loop: bra $loop;"));
    let shape = Launch { fuel: 10_000, ..launch(1, 32, &[0, 0]) };
    match gpu.launch("k", &shape) {
        Err(LaunchError::Fault(fault)) => {
            assert!(matches!(fault.kind, FaultKind::OutOfFuel { instructions: 10_000, .. }));
            assert!(fault.to_string().contains("$loop: bra $loop;"));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn everything_unsupported_is_reported_at_once() {
    let text = format!(
        "{HEADER}.entry k() {{ .reg .b32 %r<2>;\ntex.1d.v4.u32.s32 {{%r1, %r1, %r1, %r1}}, [x, {{%r1}}];\n\
         add.u32 %r1, %r2, 1;\nadd.u77 %r1, %r1, 1;\nbra $nowhere;\nret; }}\n"
    );
    let Err(LoadError::Unsupported(all)) = Program::load(&text) else { panic!("it has gaps") };
    let lines: Vec<u32> = all.iter().map(|it| it.line).collect();
    assert_eq!(lines, [5, 6, 7, 8]);
    assert_eq!(all[1].reason, "`%r2` is not declared");
    assert_eq!(all[2].reason, "vgpu has no `add.u77`");
}

/// As ptxas does. A register with the name of a special one is allowed, but hides that.
#[test]
fn names_that_hide_or_repeat_others_are_refused() {
    let text = format!(
        "{HEADER}.entry k() {{ .reg .b32 %tid, %r<4>, %laneid;\nmov.u32 %laneid, 5;\n\
         mov.u32 %r1, %tid.x;\n.shared .b8 %r[4];\n{{ .reg .b32 %r<4>; mov.u32 %r1, %ntid.x; }}\n\
         mov.u32 %tid, %tid.y;\nret; }}\n"
    );
    let Err(LoadError::Unsupported(all)) = Program::load(&text) else { panic!("it has faults") };
    let reasons: Vec<_> = all.iter().map(|it| (it.line, it.reason.as_str())).collect();
    let hidden = |part: &str| {
        format!("`%tid` is declared here, which hides a special register, and has no `.{part}`")
    };
    let expected = [(6, hidden("x")), (7, "`%r` is declared twice".to_owned()), (9, hidden("y"))];
    assert_eq!(reasons, expected.each_ref().map(|(line, reason)| (*line, reason.as_str())));
}

#[test]
fn launches_that_do_not_fit_are_refused() {
    let gpu = Gpu::new(&format!(
        "{HEADER}.entry k(.param .u64 p) .maxntid 128, 1, 1 {{ .shared .b8 s[1000]; ret; }}"
    ));
    let good = launch(2, 128, &[0]);
    assert!(gpu.launch("k", &good).is_ok());
    let refused = |launch: Launch, arg: &str| match gpu.launch("k", &launch) {
        Err(LaunchError::Shape { arg: got, .. }) => assert_eq!(got, arg),
        other => panic!("{other:?}"),
    };
    refused(Launch { block: [129, 1, 1], ..good.clone() }, "block");
    refused(Launch { grid: [0, 1, 1], ..good.clone() }, "grid");
    refused(Launch { cluster: [3, 1, 1], ..good.clone() }, "cluster");
    refused(Launch { dynamic_shared_bytes: 227 * 1024, ..good.clone() }, "dynamic_shared_bytes");
    refused(Launch { params: vec![], ..good.clone() }, "params");
    refused(Launch { grid: [65, 1, 1], cooperative: true, num_sms: 1, ..good.clone() }, "grid");
    assert!(matches!(gpu.launch("j", &good), Err(LaunchError::NoKernel { .. })));
}
