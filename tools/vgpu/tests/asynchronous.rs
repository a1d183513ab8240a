//! mbarriers, asynchronous copies and stores, in every mode of completion.

mod support;

use support::{Gpu, launch};
use vgpu::{Asynchrony, Checks, Fault, FaultKind, Launch, LaunchError};

const HEADER: &str = ".version 8.7\n.target sm_90a\n.address_size 64\n";

const MODES: [Asynchrony; 6] = [
    Asynchrony::Earliest,
    Asynchrony::Latest,
    Asynchrony::Random(1),
    Asynchrony::Random(2),
    Asynchrony::Random(3),
    Asynchrony::Random(4),
];

/// A kernel `k` with two buffers in `%a` and `%b`, the thread in `%tid`, 4096 bytes at `tile` and
/// mbarriers at `bar`.
fn kernel(body: &str) -> String {
    kernel_of("", body)
}

fn kernel_of(directives: &str, body: &str) -> String {
    format!(
        "{HEADER}.entry k(.param .u64 pa, .param .u64 pb) {directives} {{\n\
         .reg .b64 %a, %b, %rd<16>; .reg .b32 %tid, %r<32>; .reg .pred %p<8>;\n\
         .shared .align 128 .b8 tile[4096]; .shared .align 8 .b64 bar[4];\n\
         ld.param.u64 %a, [pa];\nld.param.u64 %b, [pb];\nmov.u32 %tid, %tid.x;\n\
         setp.eq.u32 %p7, %tid, 0;\n{body}\nret;\n}}\n"
    )
}

/// `st b[tid] = register`.
fn store(register: &str) -> String {
    format!(
        "mul.wide.u32 %rd15, %tid, 4;\nadd.u64 %rd15, %b, %rd15;\nst.global.u32 [%rd15], {register};\n"
    )
}

fn shape(mode: Asynchrony, blocks: u32, threads: u32, params: &[u64]) -> Launch {
    Launch { asynchrony: Some(mode), ..launch(blocks, threads, params) }
}

/// Runs a kernel in every mode; the answer must be `expected`.
fn expect(text: &str, blocks: u32, threads: u32, input: &[u32], expected: &[u32]) {
    for mode in MODES {
        let gpu = Gpu::new(text);
        let (a, b) = (gpu.upload(input), gpu.upload(&vec![0u32; expected.len()]));
        if let Err(error) = gpu.launch("k", &shape(mode, blocks, threads, &[a, b])) {
            panic!("{mode:?}: {error}");
        }
        assert_eq!(gpu.download::<u32>(b, expected.len()), expected, "{mode:?}");
    }
}

fn fault(text: &str, threads: u32, mode: Asynchrony) -> Fault {
    let gpu = Gpu::new(text);
    let (a, b) = (gpu.upload(&[0u32; 64]), gpu.upload(&[0u32; 64]));
    match gpu.launch("k", &shape(mode, 1, threads, &[a, b])) {
        Err(LaunchError::Fault(fault)) => *fault,
        other => panic!("expected a fault, got {other:?}"),
    }
}

/// Waits for the phase of a parity at `[bar]`.
fn wait(label: &str, parity: u32) -> String {
    format!(
        "${label}: mbarrier.try_wait.parity.shared::cta.b64 %p6, [bar], {parity};\n@!%p6 bra ${label};\n"
    )
}

#[test]
fn a_phase_ends_when_all_have_arrived() {
    // Warp 1 writes and arrives with all threads; warp 0 waits for the first phase.
    let body = format!(
        "@%p7 mbarrier.init.shared::cta.b64 [bar], 32;\nfence.mbarrier_init.release.cluster;\nbar.sync 0;\n\
         setp.lt.u32 %p1, %tid, 32;\n@%p1 bra $low;\nst.shared.u32 [tile], 99;\n\
         mbarrier.arrive.release.cta.shared::cta.b64 _, [bar];\nbra $end;\n\
         $low: {}ld.shared.u32 %r1, [tile];\n$end:\n{}",
        wait("w", 0),
        store("%r1")
    );
    let expected: Vec<u32> = (0..64).map(|i| if i < 32 { 99 } else { 0 }).collect();
    expect(&kernel(&body), 1, 64, &[0], &expected);
}

#[test]
fn states_tell_phases_and_pending_arrivals() {
    // Three arrivals a phase, by one thread: pending counts 3 and 2 before the first two.
    let body = "mbarrier.init.shared.b64 [bar], 3;\n\
         mbarrier.arrive.shared.b64 %rd1, [bar];\nmbarrier.pending_count.b64 %r1, %rd1;\n\
         st.global.u32 [%b], %r1;\n\
         mbarrier.arrive.noComplete.shared.b64 %rd2, [bar], 1;\nmbarrier.pending_count.b64 %r1, %rd2;\n\
         st.global.u32 [%b+4], %r1;\n\
         mbarrier.test_wait.shared.b64 %p1, [bar], %rd1;\nselp.u32 %r1, 1, 0, %p1;\n\
         st.global.u32 [%b+8], %r1;\n\
         mbarrier.arrive_drop.shared.b64 %rd3, [bar];\n\
         mbarrier.test_wait.shared.b64 %p1, [bar], %rd1;\nselp.u32 %r1, 1, 0, %p1;\n\
         st.global.u32 [%b+12], %r1;\n\
         mbarrier.test_wait.parity.shared.b64 %p1, [bar], 1;\nselp.u32 %r1, 1, 0, %p1;\n\
         st.global.u32 [%b+16], %r1;\n\
         mbarrier.arrive.shared.b64 %rd4, [bar], 2;\nmbarrier.pending_count.b64 %r1, %rd4;\n\
         st.global.u32 [%b+20], %r1;\n\
         mbarrier.test_wait.parity.shared.b64 %p1, [bar], 1;\nselp.u32 %r1, 1, 0, %p1;\n\
         st.global.u32 [%b+24], %r1;\nmbarrier.inval.shared.b64 [bar];";
    // After three arrivals the phase of parity 0 is over, that of parity 1 is not. The dropped
    // arrival is missing from it: 2 end it.
    expect(&kernel(body), 1, 1, &[0], &[3, 2, 0, 1, 0, 2, 1]);
}

#[test]
fn bytes_end_a_phase_only_together_with_arrivals() {
    let test = |at: u32| {
        format!(
            "mbarrier.test_wait.parity.shared.b64 %p1, [bar], 0;\nselp.u32 %r1, 1, 0, %p1;\n\
             st.global.u32 [%b+{at}], %r1;\n"
        )
    };
    let body = format!(
        "mbarrier.init.shared.b64 [bar], 1;\n\
         mbarrier.complete_tx.relaxed.cta.shared::cta.b64 [bar], 16;\n{}\
         mbarrier.arrive.expect_tx.shared.b64 _, [bar], 48;\n{}\
         mbarrier.expect_tx.relaxed.cta.shared::cta.b64 [bar], 4;\n\
         mbarrier.complete_tx.relaxed.cta.shared::cta.b64 [bar], 32;\n{}\
         mbarrier.complete_tx.relaxed.cta.shared::cta.b64 [bar], 4;\n{}",
        test(0),
        test(4),
        test(8),
        test(12)
    );
    expect(&kernel(&body), 1, 1, &[0], &[0, 0, 0, 1]);
}

#[test]
fn misused_mbarriers_are_named() {
    let cases = [
        ("mbarrier.arrive.shared.b64 _, [bar];", "no mbarrier was initialised"),
        ("mbarrier.init.shared.b64 [bar], 0;", "for 0 arrivals"),
        (
            "mbarrier.init.shared.b64 [bar], 1;\nmbarrier.arrive.shared.b64 _, [bar], 2;",
            "2 arrivals at an mbarrier that waits for 1",
        ),
        (
            "mbarrier.init.shared.b64 [bar], 1;\nmbarrier.arrive.noComplete.shared.b64 _, [bar], 1;",
            ".noComplete ends the phase",
        ),
        (
            "mbarrier.init.shared.b64 [bar], 1;\nmbarrier.expect_tx.relaxed.cta.shared::cta.b64 [bar], 1048576;",
            "short of 1048576 bytes",
        ),
        (
            "mbarrier.init.shared.b64 [bar], 1;\nmbarrier.inval.shared.b64 [bar];\n\
             mbarrier.test_wait.parity.shared.b64 %p1, [bar], 0;",
            "no mbarrier was initialised",
        ),
    ];
    for (body, expected) in cases {
        match fault(&kernel(body), 1, Asynchrony::Earliest).kind {
            FaultKind::Misuse(message) => assert!(message.contains(expected), "{message}"),
            other => panic!("{body}: {other}"),
        }
    }
    let odd = fault(&kernel("mbarrier.init.shared.b64 [bar+4], 1;"), 1, Asynchrony::Earliest);
    assert!(matches!(odd.kind, FaultKind::Misaligned { .. }), "{odd}");
}

#[test]
fn a_phase_that_never_ends_is_a_deadlock_that_names_its_barrier() {
    let body = format!(
        "@%p7 mbarrier.init.shared.b64 [bar], 2;\nbar.warp.sync -1;\n\
         @%p7 mbarrier.arrive.expect_tx.shared.b64 _, [bar], 64;\n{}",
        wait("w", 0)
    );
    for mode in MODES {
        let fault = fault(&kernel(&body), 32, mode);
        let FaultKind::Deadlock { waiting } = &fault.kind else { panic!("{mode:?}: {fault}") };
        assert!(waiting[0].contains("wait for phase 0 of the mbarrier"), "{}", waiting[0]);
        assert!(waiting[0].contains("1 of 2 arrivals and 64 bytes are missing"), "{}", waiting[0]);
    }
}

#[test]
fn a_bounded_wait_runs_out_of_time() {
    // Ten virtual seconds on %globaltimer, then the thread gives up.
    let body = "mbarrier.init.shared.b64 [bar], 1;\nmov.u64 %rd1, %globaltimer;\n\
         $w: mbarrier.try_wait.parity.shared.b64 %p1, [bar], 0;\n@%p1 bra $good;\n\
         mov.u64 %rd2, %globaltimer;\nsub.u64 %rd2, %rd2, %rd1;\n\
         setp.lt.u64 %p2, %rd2, 10000000000;\n@%p2 bra $w;\nst.global.u32 [%b], 7;\n$good:";
    expect(&kernel(body), 1, 1, &[0], &[7]);
}

#[test]
fn remote_threads_arrive_at_a_block_of_the_cluster() {
    // Each block waits for the arrival of the other and reads what that one stored in it.
    let body = format!(
        "@%p7 mbarrier.init.shared::cta.b64 [bar], 1;\nbarrier.cluster.arrive.aligned;\nbarrier.cluster.wait.aligned;\n\
         mov.u32 %r1, %cluster_ctarank;\nxor.b32 %r2, %r1, 1;\nmov.u32 %r3, bar;\n\
         mapa.shared::cluster.u32 %r4, %r3, %r2;\nmov.u32 %r5, tile;\n\
         mapa.shared::cluster.u32 %r6, %r5, %r2;\nadd.u32 %r7, %r1, 50;\n\
         @%p7 st.shared::cluster.u32 [%r6], %r7;\n\
         @%p7 mbarrier.arrive.release.cluster.shared::cluster.b64 _, [%r4];\n{}\
         ld.shared.u32 %r8, [tile];\nmov.u32 %r9, %ctaid.x;\nmul.wide.u32 %rd1, %r9, 4;\n\
         add.u64 %rd1, %b, %rd1;\nst.global.u32 [%rd1], %r8;\n\
         barrier.cluster.arrive.aligned;\nbarrier.cluster.wait.aligned;",
        wait("w", 0)
    );
    expect(&kernel_of(".reqnctapercluster 2, 1, 1", &body), 4, 32, &[0], &[51, 50, 51, 50]);
}

#[test]
fn copies_of_threads_are_there_after_their_group() {
    // Each thread copies 16 bytes, 8 of them from memory; waits for all groups but an empty one,
    // then copies 4 more bytes.
    let body = format!(
        "mul.lo.u32 %r1, %tid, 16;\ncvt.u64.u32 %rd1, %r1;\nadd.u64 %rd2, %a, %rd1;\n\
         mov.u32 %r2, tile;\nadd.u32 %r2, %r2, %r1;\n\
         st.shared.v4.u32 [%r2], {{%tid, %tid, %tid, %tid}};\n\
         cp.async.cg.shared.global.L2::256B [%r2], [%rd2], 16, 8;\ncp.async.commit_group;\n\
         cp.async.commit_group;\ncp.async.wait_group 1;\n\
         cp.async.ca.shared::cta.global.L2::128B [%r2+8], [%rd2+12], 4;\nld.shared.v2.u32 {{%r3, %r4}}, [%r2];\n\
         cp.async.wait_all;\nld.shared.v2.u32 {{%r5, %r6}}, [%r2+8];\n\
         shl.b32 %r4, %r4, 8;\nshl.b32 %r5, %r5, 16;\nshl.b32 %r6, %r6, 24;\n\
         or.b32 %r3, %r3, %r4;\nor.b32 %r3, %r3, %r5;\nor.b32 %r3, %r3, %r6;\n{}",
        store("%r3")
    );
    let input: Vec<u32> = (0..128).collect();
    // Words 0 and 1 of the thread, word 3 in place of the zero of word 2, zero.
    let expected: Vec<u32> =
        (0..32).map(|t| (4 * t) | ((4 * t + 1) << 8) | ((4 * t + 3) << 16)).collect();
    expect(&kernel(&body), 1, 32, &input, &expected);
}

#[test]
fn copies_can_be_ignored_and_can_arrive_at_a_barrier() {
    for (noinc, arrivals) in [("", 1), (".noinc", 33)] {
        let body = format!(
            "@%p7 mbarrier.init.shared.b64 [bar], {arrivals};\nbar.warp.sync -1;\n\
             shl.b32 %r1, %tid, 2;\ncvt.u64.u32 %rd1, %r1;\nadd.u64 %rd2, %a, %rd1;\n\
             mov.u32 %r2, tile;\nadd.u32 %r2, %r2, %r1;\nst.shared.u32 [%r2], 5;\n\
             setp.gt.u32 %p1, %tid, 15;\n\
             cp.async.ca.shared.global [%r2], [%rd2], 4, %p1;\n\
             cp.async.mbarrier.arrive{noinc}.shared::cta.b64 [bar];\nbar.warp.sync -1;\n\
             @%p7 mbarrier.arrive.shared.b64 _, [bar];\n{}ld.shared.u32 %r3, [%r2];\n{}",
            wait("w", 0),
            store("%r3")
        );
        let input: Vec<u32> = (100..132).collect();
        let expected: Vec<u32> = (0..32).map(|t| if t > 15 { 0 } else { 100 + t }).collect();
        expect(&kernel(&body), 1, 32, &input, &expected);
    }
}

#[test]
fn bulk_copies_go_both_ways() {
    let body = format!(
        "@!%p7 bra $wait;\nmbarrier.init.shared::cta.b64 [bar], 1;\nfence.mbarrier_init.release.cluster;\nmov.u32 %r1, tile;\nmov.u32 %r2, bar;\n\
         mbarrier.arrive.expect_tx.shared::cta.b64 _, [bar], 128;\n\
         cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%r1], [%a], 64, [%r2];\n\
         cp.async.bulk.shared::cta.global.mbarrier::complete_tx::bytes [%r1+64], [%a+64], 64, [%r2];\n\
         $wait: bar.warp.sync -1;\n{}\
         @!%p7 bra $end;\nld.shared.u32 %r3, [tile+4];\nadd.u32 %r3, %r3, 1000;\n\
         st.shared.u32 [tile+4], %r3;\nfence.proxy.async.shared::cta;\n\
         cp.async.bulk.global.shared::cta.bulk_group [%b], [%r1], 128;\ncp.async.bulk.commit_group;\n\
         cp.async.bulk.wait_group.read 0;\nst.shared.u32 [tile], 77;\n\
         fence.proxy.async.shared::cta;\n\
         cp.reduce.async.bulk.global.shared::cta.bulk_group.add.u32 [%b+128], [%r1], 16;\n\
         cp.async.bulk.commit_group;\ncp.async.bulk.wait_group 0;\n$end:",
        wait("w", 0)
    );
    let input: Vec<u32> = (1..=32).collect();
    let mut expected = input.clone();
    expected[1] = 1002;
    // After `.read` the source may change without the copy seeing it; the reduction adds to zero.
    expected.extend([77, 1002, 3, 4]);
    expect(&kernel(&body), 1, 32, &input, &expected);
}

#[test]
fn a_source_that_changes_too_early_shows_in_the_latest_mode() {
    let body = "@!%p7 bra $end;\nmov.u32 %r1, tile;\nst.shared.u32 [tile], 1;\n\
         fence.proxy.async.shared::cta;\n\
         cp.async.bulk.global.shared::cta.bulk_group [%b], [%r1], 16;\ncp.async.bulk.commit_group;\n\
         st.shared.u32 [tile], 2;\ncp.async.bulk.wait_group 0;\n$end:";
    for (mode, expected) in [(Asynchrony::Earliest, 1u32), (Asynchrony::Latest, 2)] {
        let gpu = Gpu::new(&kernel(body));
        let b = gpu.upload(&[0u32; 4]);
        // A checker would find it in any mode.
        let blind = Launch { checks: Some(Checks::NONE), ..shape(mode, 1, 32, &[b, b]) };
        gpu.launch("k", &blind).unwrap();
        assert_eq!(gpu.download::<u32>(b, 1), [expected], "{mode:?}");
    }
}

#[test]
fn bulk_copies_reach_other_blocks_of_the_cluster() {
    // Block 0 loads for both blocks; each block then sends a line to the other's line 1.
    let body = format!(
        "mov.u32 %r1, tile;\nmov.u32 %r2, bar;\nmov.u32 %r3, %cluster_ctarank;\nxor.b32 %r4, %r3, 1;\n\
         @%p7 mbarrier.init.shared::cta.b64 [bar], 1;\nfence.mbarrier_init.release.cluster;\n\
         @%p7 mbarrier.arrive.expect_tx.shared::cta.b64 _, [bar], 80;\n\
         barrier.cluster.arrive.aligned;\nbarrier.cluster.wait.aligned;\n\
         setp.eq.and.u32 %p1, %r3, 0, %p7;\n\
         @%p1 cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster [%r1], [%a], 64, [%r2], 3;\n\
         mapa.shared::cluster.u32 %r5, %r1, %r4;\nmapa.shared::cluster.u32 %r6, %r2, %r4;\n\
         add.u32 %r8, %r3, 500;\n@%p7 st.shared.u32 [tile+128], %r8;\nfence.proxy.async;\n\
         @%p7 cp.async.bulk.shared::cluster.shared::cta.mbarrier::complete_tx::bytes [%r5+64], [%r1+128], 16, [%r6];\n{}\
         ld.shared.u32 %r7, [tile+60];\nld.shared.u32 %r9, [tile+64];\nadd.u32 %r7, %r7, %r9;\n\
         mov.u32 %r9, %ctaid.x;\nmul.wide.u32 %rd1, %r9, 4;\n\
         add.u64 %rd1, %b, %rd1;\nst.global.u32 [%rd1], %r7;\n\
         barrier.cluster.arrive.aligned;\nbarrier.cluster.wait.aligned;",
        wait("w", 0)
    );
    let input: Vec<u32> = (0..16).collect();
    expect(&kernel_of(".reqnctapercluster 2, 1, 1", &body), 2, 32, &input, &[516, 515]);
}

#[test]
fn asynchronous_stores_and_reductions_bring_their_bytes() {
    // Each thread of block 0 stores 16 bytes in block 1, and adds its number to a word there.
    let body = format!(
        "mov.u32 %r1, tile;\nmov.u32 %r2, bar;\nmov.u32 %r3, %cluster_ctarank;\n\
         @%p7 mbarrier.init.shared::cta.b64 [bar], 1;\n\
         setp.eq.and.u32 %p2, %r3, 1, %p7;\n\
         @%p2 mbarrier.arrive.expect_tx.shared::cta.b64 _, [bar], 640;\n\
         barrier.cluster.arrive.aligned;\nbarrier.cluster.wait.aligned;\n\
         setp.eq.u32 %p1, %r3, 1;\n@%p1 bra $one;\n\
         mapa.shared::cluster.u32 %r4, %r1, 1;\nmapa.shared::cluster.u32 %r5, %r2, 1;\n\
         mad.lo.u32 %r6, %tid, 16, %r4;\ncvt.u64.u32 %rd1, %tid;\nmov.u64 %rd2, 3;\n\
         st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.v2.b64 [%r6], {{%rd1, %rd2}}, [%r5];\n\
         red.async.relaxed.cluster.shared::cluster.mbarrier::complete_tx::bytes.add.u32 [%r4+1024], %tid, [%r5];\n\
         bra $end;\n$one: {}mad.lo.u32 %r6, %tid, 16, %r1;\n\
         ld.shared.v4.u32 {{%r7, %r8, %r9, %r10}}, [%r6];\nadd.u32 %r7, %r7, %r9;\n\
         ld.shared.u32 %r8, [tile+1024];\nadd.u32 %r7, %r7, %r8;\n{}\
         $end: barrier.cluster.arrive;\nbarrier.cluster.wait;",
        wait("w", 0),
        store("%r7")
    );
    let expected: Vec<u32> = (0..32).map(|t| t + 3 + 496).collect();
    expect(&kernel_of(".reqnctapercluster 2, 1, 1", &body), 2, 32, &[0], &expected);
}

#[test]
fn transfers_have_bounds_and_alignments() {
    let prefix = "@!%p7 bra $end;\nmbarrier.init.shared.b64 [bar], 1;\n\
         fence.mbarrier_init.release.cluster;\nmov.u32 %r1, tile;\n";
    let bulk = |to: &str, from: &str, bytes: u32| {
        format!(
            "{prefix}cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [{to}], [{from}], {bytes}, [bar];\n$end:"
        )
    };
    for mode in [Asynchrony::Earliest, Asynchrony::Latest] {
        let late = fault(&kernel(&bulk("%r1", "%a+240", 32)), 32, mode);
        let FaultKind::OutOfBounds { access, bytes: 32, .. } = &late.kind else { panic!("{late}") };
        assert_eq!(access, "asynchronous read");
        assert!(late.at.unwrap().instruction.starts_with("cp.async.bulk.shared::cluster"));
        let odd = fault(&kernel(&bulk("%r1+8", "%a", 16)), 32, mode);
        assert!(matches!(odd.kind, FaultKind::Misaligned { bytes: 16, .. }), "{odd}");
    }
}

#[test]
fn registers_move_between_the_warps_of_a_block() {
    // 128 registers a thread: warp 1 can grow by 32 only when warp 0 has shrunk.
    let grow = |first: u32| {
        format!(
            "setp.lt.u32 %p1, %tid, 32;\n@%p1 bra $low;\nsetmaxnreg.inc.sync.aligned.u32 160;\nbra $end;\n\
             $low: setmaxnreg.dec.sync.aligned.u32 {first};\n$end: mov.u32 %r1, 6;\n{}",
            store("%r1")
        )
    };
    let bounds = ".maxntid 512, 1, 1";
    expect(&kernel_of(bounds, &grow(96)), 1, 64, &[0], &[6; 64]);
    let fault = fault(&kernel_of(bounds, &grow(104)), 64, Asynchrony::Earliest);
    let FaultKind::Deadlock { waiting } = &fault.kind else { panic!("{fault}") };
    assert!(waiting[0].contains("32 more registers per thread, of which the block has 24"));
}

#[test]
fn the_same_seed_gives_the_same_run() {
    // Threads take tickets; the order depends on the seed alone.
    let body =
        "atom.global.add.u32 %r1, [%a], 1;\nbar.sync 0;\natom.global.add.u32 %r1, [%a], 1;\n";
    let run = |mode| {
        let gpu = Gpu::new(&kernel(&format!("{body}{}", store("%r1"))));
        let (a, b) = (gpu.upload(&[0u32]), gpu.upload(&[0u32; 256]));
        gpu.launch("k", &shape(mode, 1, 256, &[a, b])).unwrap();
        gpu.download::<u32>(b, 256)
    };
    assert_eq!(run(Asynchrony::Random(5)), run(Asynchrony::Random(5)));
    assert_ne!(run(Asynchrony::Random(5)), run(Asynchrony::Random(6)));
    assert_ne!(run(Asynchrony::Random(5)), run(Asynchrony::Earliest));
}

#[test]
fn a_kernel_of_nvcc_copies_in_bulk() {
    for mode in MODES {
        let gpu = Gpu::new(include_str!("ptx/bulk.ptx"));
        let values: Vec<f32> = (0..100).map(|i| i as f32).collect();
        let (input, output) = (gpu.upload(&values), gpu.upload(&[0f32; 100]));
        let params = [&input.to_le_bytes()[..], &output.to_le_bytes(), &100u32.to_le_bytes()];
        let launch = Launch {
            params: params.concat(),
            dynamic_shared_bytes: 400,
            ..shape(mode, 1, 64, &[])
        };
        gpu.launch("bulk", &launch).unwrap();
        let expected: Vec<f32> = values.iter().map(|x| 2.0 * x + 1.0).collect();
        assert_eq!(gpu.download::<f32>(output, 100), expected, "{mode:?}");
    }
}
