//! mbarriers: phases, arrivals, bytes, bounded waits, deadlocks.

mod support;

use support::asynchronous::{MODES, expect, fault, kernel, kernel_of, store, wait};
use vgpu::{Asynchrony, FaultKind};

#[test]
fn a_phase_ends_when_all_have_arrived() {
    // Warp 1 writes and arrives with all threads; warp 0 waits for the first phase.
    let body = format!(
        "@%p7 mbarrier.init.shared::cta.b64 [bar], 32;\nfence.mbarrier_init.release.cluster;\nbar.sync 0;\n\
         setp.lt.u32 %p1, %me, 32;\n@%p1 bra $low;\nst.shared.u32 [tile], 99;\n\
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
