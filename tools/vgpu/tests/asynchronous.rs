//! Asynchronous copies and stores: groups, barriers, modes, bounds.

mod support;

use support::Gpu;
use support::asynchronous::{MODES, expect, fault, kernel, kernel_of, shape, store, wait};
use vgpu::{Asynchrony, Checks, FaultKind, Launch};

#[test]
fn copies_of_threads_are_there_after_their_group() {
    // Each thread copies 16 bytes, 8 of them from memory; waits for all groups but an empty one,
    // then copies 4 more bytes.
    let body = format!(
        "mul.lo.u32 %r1, %me, 16;\ncvt.u64.u32 %rd1, %r1;\nadd.u64 %rd2, %a, %rd1;\n\
         mov.u32 %r2, tile;\nadd.u32 %r2, %r2, %r1;\n\
         st.shared.v4.u32 [%r2], {{%me, %me, %me, %me}};\n\
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
             shl.b32 %r1, %me, 2;\ncvt.u64.u32 %rd1, %r1;\nadd.u64 %rd2, %a, %rd1;\n\
             mov.u32 %r2, tile;\nadd.u32 %r2, %r2, %r1;\nst.shared.u32 [%r2], 5;\n\
             setp.gt.u32 %p1, %me, 15;\n\
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
         mad.lo.u32 %r6, %me, 16, %r4;\ncvt.u64.u32 %rd1, %me;\nmov.u64 %rd2, 3;\n\
         st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.v2.b64 [%r6], {{%rd1, %rd2}}, [%r5];\n\
         red.async.relaxed.cluster.shared::cluster.mbarrier::complete_tx::bytes.add.u32 [%r4+1024], %me, [%r5];\n\
         bra $end;\n$one: {}mad.lo.u32 %r6, %me, 16, %r1;\n\
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
            "setp.lt.u32 %p1, %me, 32;\n@%p1 bra $low;\nsetmaxnreg.inc.sync.aligned.u32 160;\nbra $end;\n\
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
