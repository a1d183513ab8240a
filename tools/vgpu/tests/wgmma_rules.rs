//! The rules of `wgmma` that the hardware does not check: for each a kernel that breaks it and one that
//! comes close.

mod support;

use support::{Gpu, launch};
use vgpu::{Asynchrony, Fault, FaultKind, Launch, LaunchError};

const MODES: [Asynchrony; 5] = [
    Asynchrony::Earliest,
    Asynchrony::Latest,
    Asynchrony::Random(1),
    Asynchrony::Random(2),
    Asynchrony::Random(3),
];

const FENCE: &str = "wgmma.fence.sync.aligned;";
const COMMIT: &str = "wgmma.commit_group.sync.aligned;";
const WAIT: &str = "wgmma.wait_group.sync.aligned 0;";
/// Both factors are full of ones, so each adds 32 to each sum.
const D: &str =
    "wgmma.mma_async.sync.aligned.m64n8k32.f32.e4m3.e4m3 {%d0, %d1, %d2, %d3}, %a, %b, 1, 1, 1;";
const E: &str =
    "wgmma.mma_async.sync.aligned.m64n8k32.f32.e4m3.e4m3 {%e0, %e1, %e2, %e3}, %a, %b, 1, 1, 1;";
const A: &str = "wgmma.mma_async.sync.aligned.m64n8k32.f32.e4m3.e4m3 {%d0, %d1, %d2, %d3}, {%f0, %f1, %f2, %f3}, %b, 1, 1, 1;";

/// 128 threads run `lines` with `%d0`-`%d3` = 0, `%e0`-`%e3` = 100, rows of A in `%f0`-`%f3`, A in
/// shared memory at `tile` and B at `tile + 8192`, and store `%d0` + `%r9`.
fn run(lines: &[&str], mode: Asynchrony) -> Result<Vec<f32>, LaunchError> {
    let text = format!(
        ".version 8.7\n.target sm_90a\n.address_size 64\n\
         .entry k(.param .u64 pb) {{\n.shared .align 1024 .b8 tile[16384];\n\
         .reg .b64 %a, %b, %out, %x<4>; .reg .b32 %d<4>, %e<4>, %f<4>, %r<10>, %me; .reg .pred %p<4>;\n\
         ld.param.u64 %out, [pb];\nmov.u32 %me, %tid.x;\nmul.wide.u32 %x0, %me, 4;\nadd.u64 %out, %out, %x0;\n\
         mov.u32 %r0, tile;\nshl.b32 %r1, %me, 2;\nadd.u32 %r1, %r1, %r0;\nmov.u32 %r2, 0;\n\
         $fill: st.shared.u32 [%r1], 0x38383838;\nadd.u32 %r1, %r1, 512;\nadd.u32 %r2, %r2, 1;\n\
         setp.lt.u32 %p0, %r2, 32;\n@%p0 bra $fill;\nfence.proxy.async.shared::cta;\nbar.sync 0;\n\
         shr.u32 %r1, %r0, 4;\ncvt.u64.u32 %a, %r1;\nor.b64 %a, %a, 0x4000004000010000;\nadd.u64 %b, %a, 512;\n\
         mov.b32 %d0, 0;\nmov.b32 %d1, 0;\nmov.b32 %d2, 0;\nmov.b32 %d3, 0;\n\
         mov.b32 %e0, 0f42C80000;\nmov.b32 %e1, %e0;\nmov.b32 %e2, %e0;\nmov.b32 %e3, %e0;\n\
         mov.b32 %f0, 0x38383838;\nmov.b32 %f1, %f0;\nmov.b32 %f2, %f0;\nmov.b32 %f3, %f0;\nmov.b32 %r9, 0;\n\
         {}\nadd.f32 %d0, %d0, %r9;\nst.global.f32 [%out], %d0;\nret;\n}}\n",
        lines.join("\n")
    );
    let gpu = Gpu::new(&text);
    let out = gpu.upload(&[0f32; 128]);
    let shape = Launch { asynchrony: Some(mode), ..launch(1, 128, &[out]) };
    gpu.launch("k", &shape).map(|_| gpu.download(out, 128))
}

/// All threads get `expected`, in all modes.
fn good(lines: &[&str], expected: f32) {
    for mode in MODES {
        match run(lines, mode) {
            Ok(got) => assert_eq!(got, vec![expected; 128], "{mode:?}: {lines:?}"),
            Err(error) => panic!("{mode:?}: {lines:?}: {error}"),
        }
    }
}

/// The fault's message has the parts and its two instructions start so, in all modes.
fn bad(lines: &[&str], message: &str, at: &str, other: &str) {
    for mode in MODES {
        let fault: Fault = match run(lines, mode) {
            Err(LaunchError::Fault(fault)) => *fault,
            other => panic!("{mode:?}: {lines:?}: {other:?}"),
        };
        let FaultKind::Misuse(text) = &fault.kind else { panic!("{mode:?}: {lines:?}: {fault}") };
        let second = fault.related.last().map_or("", |it| it.at.instruction.as_str());
        assert!(text.contains(message), "{mode:?}: {lines:?}: {fault}");
        assert!(second.starts_with(other), "{mode:?}: {lines:?}: {fault}");
        let first = fault.at.as_ref().map_or("", |place| place.instruction.as_str());
        assert!(first.starts_with(at), "{mode:?}: {lines:?}: {fault}");
    }
}

#[test]
fn factors_stay_as_they_are_until_the_wait() {
    let message = "overwritten before the wait";
    let product = "wgmma.mma_async";
    for write in [
        "st.shared.u32 [tile+8192], 77;",
        "st.shared.u8 [tile+17], 0;",
        "atom.shared.add.u32 %r1, [tile+8336], 1;",
        "stmatrix.sync.aligned.m8n8.x1.shared.b16 [%r0], {%f0};",
    ] {
        let name = write.split([' ', '[']).next().unwrap();
        bad(&[FENCE, D, COMMIT, write, WAIT], message, name, product);
        bad(&[FENCE, D, write, COMMIT, WAIT], message, name, product);
        // Threads that write different values to one address would race.
        if !name.starts_with("stmatrix") {
            good(&[FENCE, D, COMMIT, WAIT, write], 32.0);
        }
    }
    // Beside the rows' 32 bytes of A's last line of 128, and behind B.
    good(&[FENCE, D, COMMIT, "st.shared.u32 [tile+8064], 77;", WAIT], 32.0);
    good(&[FENCE, D, COMMIT, "st.shared.u32 [tile+9216], 77;", WAIT], 32.0);
    good(&[FENCE, D, COMMIT, "ld.shared.u32 %r1, [tile];", WAIT], 32.0);
    // A from registers leaves the place of A free.
    good(&[FENCE, A, COMMIT, "st.shared.u32 [tile], 77;", WAIT], 32.0);
    // A copy that is asynchronous itself.
    let copy = "and.b64 %x1, %out, -16;";
    let copies =
        [FENCE, D, COMMIT, copy, "cp.async.cg.shared.global [tile+8192], [%x1], 16;", WAIT];
    let Err(LaunchError::Fault(fault)) = run(&copies, Asynchrony::Earliest) else { panic!() };
    // The checker of races sees it when the copy is issued.
    assert!(fault.to_string().contains("races with an asynchronous read"), "{fault}");
    assert!(fault.at.unwrap().instruction.starts_with("cp.async"));
}

#[test]
fn one_warps_wait_is_enough_to_write_the_factors() {
    let warp_0 = "setp.lt.u32 %p1, %me, 32;\n@%p1 st.shared.u32 [tile+8192], 77;";
    good(&[FENCE, D, COMMIT, WAIT, warp_0], 32.0);
}

#[test]
fn sums_are_not_touched_before_the_wait() {
    let product = "wgmma.mma_async";
    let read = "a register of the sum of a product is read before the wait";
    let written = "a register of the sum of a product is written before the wait";
    bad(&[FENCE, D, COMMIT, "add.f32 %r9, %d1, %d1;", WAIT], read, "add.f32", product);
    bad(&[FENCE, D, COMMIT, "st.global.f32 [%out], %d3;", WAIT], read, "st.global", product);
    bad(&[FENCE, D, "st.shared.f32 [tile+16000], %d3;", COMMIT, WAIT], read, "st.shared", product);
    bad(&[FENCE, D, COMMIT, "mov.b32 %d2, 0;", WAIT], written, "mov.b32", product);
    bad(&[FENCE, D, COMMIT, "ld.shared.f32 %d2, [tile];", WAIT], written, "ld.shared", product);
    good(&[FENCE, D, COMMIT, "add.f32 %r9, %e1, %e1;", WAIT], 232.0);
    good(&[FENCE, D, COMMIT, WAIT, "add.f32 %r9, %d1, %d1;"], 96.0);
    // Threads that do not execute it do not touch anything.
    let none = "setp.gt.u32 %p1, %me, 500;\n@%p1 st.global.f32 [%out], %d0;";
    good(&[FENCE, D, COMMIT, none, WAIT], 32.0);
}

#[test]
fn copies_of_a_sum_take_its_value_at_the_wait() {
    let copy = "mov.b32 %r9, %d1;";
    good(&[FENCE, D, COMMIT, copy, WAIT], 64.0);
    good(&[FENCE, D, copy, COMMIT, WAIT], 64.0);
    let read = "a register of a copy of the sum of a product is read";
    let twice = "add.f32 %r8, %r9, %r9;";
    bad(&[FENCE, D, COMMIT, copy, twice, WAIT], read, "add.f32", "wgmma.mma_async");
    // A copy that is overwritten is none any more, also if only in some threads.
    good(&[FENCE, D, COMMIT, copy, "mov.b32 %r9, 0f40000000;", WAIT], 34.0);
    let some =
        "setp.lt.u32 %p1, %me, 500;\n@%p1 mov.b32 %r9, %d1;\nmov.b32 %r8, %r9;\nmov.b32 %r9, %r8;";
    good(&[FENCE, D, COMMIT, some, WAIT], 64.0);
}

#[test]
fn rows_of_a_in_registers_are_not_touched_before_the_wait() {
    let written = "a register of A of a product is written before the wait";
    let read = "a register of A of a product is read before the wait";
    let product = "wgmma.mma_async";
    bad(&[FENCE, A, COMMIT, "mov.b32 %f2, 0;", WAIT], written, "mov.b32", product);
    bad(&[FENCE, A, COMMIT, "add.u32 %r8, %f2, 1;", WAIT], read, "add.u32", product);
    good(&[FENCE, A, COMMIT, WAIT, "mov.b32 %f2, 0;"], 32.0);
    good(&[FENCE, A, A, COMMIT, WAIT], 64.0);
    let sum = A.replace("%f1", "%e1");
    bad(&[FENCE, E, &sum, COMMIT, WAIT], "rows of A belong to a product", product, product);
}

#[test]
fn groups_end_one_after_the_other() {
    let last_may_run = "wgmma.wait_group.sync.aligned 1;";
    let use_d = "add.f32 %r9, %d0, %d0;";
    let use_e = "add.f32 %r9, %e0, %e0;";
    let both = [FENCE, D, COMMIT, E, COMMIT, last_may_run];
    good(&[&both[..], &[use_d, WAIT]].concat(), 96.0);
    good(&[&both[..], &[WAIT, use_e]].concat(), 296.0);
    let message = "read before the wait";
    bad(&[&both[..], &[use_e, WAIT]].concat(), message, "add.f32", "wgmma.mma_async");
    // A group that still adds to the same sum.
    let same = [FENCE, D, COMMIT, D, COMMIT, last_may_run];
    bad(&[&same[..], &[use_d, WAIT]].concat(), message, "add.f32", "wgmma.mma_async");
    good(&[&same[..], &[WAIT]].concat(), 64.0);
    // Not committed, so not waited for.
    let open = [FENCE, D, COMMIT, E, WAIT];
    bad(&[&open[..], &[use_e, COMMIT, WAIT]].concat(), message, "add.f32", "wgmma.mma_async");
}

#[test]
fn a_fence_comes_before_a_product_whose_registers_were_used() {
    let product = "wgmma.mma_async";
    bad(&[D, COMMIT, WAIT], "before the warp's first wgmma.fence", product, "");
    let message = "no wgmma.fence between";
    let touch = "add.f32 %d1, %d1, 0f3F800000;";
    bad(&[FENCE, touch, D, COMMIT, WAIT], message, product, "add.f32");
    bad(&[FENCE, D, COMMIT, WAIT, touch, D, COMMIT, WAIT], message, product, "add.f32");
    bad(&[FENCE, "mov.b32 %f1, %f0;", A, COMMIT, WAIT], message, product, "mov.b32");
    good(&[touch, FENCE, D, COMMIT, WAIT], 32.0);
    good(&[FENCE, D, COMMIT, WAIT, touch, FENCE, D, COMMIT, WAIT], 64.0);
    // Nobody used the registers in between; other registers do not matter.
    good(&[FENCE, D, COMMIT, WAIT, D, COMMIT, WAIT], 64.0);
    good(&[FENCE, "mov.b32 %f1, %f0;", D, COMMIT, WAIT], 32.0);
    // The control flow alone would allow the use; it never happens.
    let maybe = "setp.gt.u32 %p1, %me, 500;\n@%p1 mov.b32 %d1, 0;";
    good(&[FENCE, maybe, D, COMMIT, WAIT], 32.0);
}

#[test]
fn products_in_flight_share_a_sum_only_if_it_is_the_same() {
    let product = "wgmma.mma_async";
    let shifted = D.replace("{%d0, %d1, %d2, %d3}", "{%d1, %d2, %d3, %e0}");
    let message = "registers of the sum belong to a product that was not waited for";
    bad(&[FENCE, D, &shifted, COMMIT, WAIT], message, product, product);
    good(&[FENCE, D, COMMIT, WAIT, FENCE, &shifted, COMMIT, WAIT], 32.0);
    let integers =
        "wgmma.mma_async.sync.aligned.m64n8k32.s32.s8.s8 {%d0, %d1, %d2, %d3}, %a, %b, 1;";
    bad(&[FENCE, D, integers, COMMIT, WAIT], "a product of another shape", product, product);
    good(&[FENCE, D, E, COMMIT, WAIT], 32.0);
}

#[test]
fn the_warps_of_a_warpgroup_agree() {
    let product = "wgmma.mma_async";
    let message = "the warps of a warpgroup differ in a product";
    let third = "setp.ge.u32 %p1, %me, 64;\nsetp.lt.u32 %p2, %me, 96;\nand.pred %p1, %p1, %p2;";
    bad(&[FENCE, third, "@%p1 add.u64 %b, %b, 2;", D, COMMIT, WAIT], message, product, product);
    bad(
        &[FENCE, third, "@%p1 bra $own;", D, "bra $both;\n$own:", D, "$both:", COMMIT, WAIT],
        message,
        product,
        product,
    );
    let counts = D.replace("1, 1, 1;", "%p1, 1, 1;");
    bad(&[FENCE, third, &counts, COMMIT, WAIT], message, product, product);
    // The same values from another computation.
    good(
        &[FENCE, third, "@%p1 add.u64 %b, %b, 2;\n@%p1 sub.u64 %b, %b, 2;", D, COMMIT, WAIT],
        32.0,
    );
    // One thread of a warp.
    let one = "setp.eq.u32 %p1, %me, 70;\n@%p1 add.u64 %b, %b, 2;";
    bad(&[FENCE, one, D, COMMIT, WAIT], "the descriptor of B is", product, "");
    let one = "setp.ne.u32 %p1, %me, 70;";
    bad(&[FENCE, one, &counts, COMMIT, WAIT], "differ in whether the sum", product, "");
}

#[test]
fn a_warp_issues_a_product_together() {
    let product = "wgmma.mma_async";
    let half = "and.b32 %r1, %me, 16;\nsetp.eq.u32 %p1, %r1, 0;";
    bad(
        &[FENCE, half, "@%p1 bra $own;", D, "bra $both;\n$own:", D, "$both:", COMMIT, WAIT],
        "the threads of a warp are at different .aligned instructions",
        product,
        product,
    );
    let message = "of a warp execute an .aligned instruction";
    bad(&[FENCE, half, "@%p1 exit;", D, COMMIT, WAIT], message, product, "");
    good(&[FENCE, half, "@%p1 bra $on;", "add.u32 %r2, %r1, 1;\n$on:", D, COMMIT, WAIT], 32.0);
}

#[test]
fn products_are_waited_for_before_the_end() {
    let message = "a warp ends without a wait for its product";
    bad(&[FENCE, E, COMMIT], message, "ret", "wgmma.mma_async");
    bad(&[FENCE, D, WAIT, "ret;"], message, "ret", "wgmma.mma_async");
    good(&[FENCE, E, COMMIT, WAIT], 0.0);
}

#[test]
fn a_warp_that_does_not_come_is_named() {
    for mode in MODES {
        let second =
            "setp.ge.u32 %p1, %me, 32;\nsetp.lt.u32 %p2, %me, 64;\nand.pred %p1, %p1, %p2;";
        let result = run(&[FENCE, second, "@%p1 exit;", D, COMMIT, WAIT], mode);
        let Err(LaunchError::Fault(fault)) = result else { panic!("{result:?}") };
        let FaultKind::Deadlock { waiting } = &fault.kind else { panic!("{fault}") };
        assert_eq!(waiting.len(), 3, "{fault}");
        assert!(waiting[0].contains("not issued by its warps [1]"), "{fault}");
    }
}

#[test]
fn factors_lie_in_shared_memory() {
    let far = "mov.b64 %b, 0x4000004000013fff;";
    let result = run(&[FENCE, far, D, COMMIT, WAIT], Asynchrony::Earliest);
    let Err(LaunchError::Fault(fault)) = result else { panic!("{result:?}") };
    assert!(matches!(fault.kind, FaultKind::OutOfBounds { .. }), "{fault}");
    let whole = "mov.b64 %b, 0;";
    let result = run(&[FENCE, whole, D, COMMIT, WAIT], Asynchrony::Latest);
    assert!(result.unwrap_err().to_string().contains("read of matrix B"));
}
