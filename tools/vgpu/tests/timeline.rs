//! Timelines: times against those that the kernel's text and the model tell.

mod support;

use support::{Gpu, launch};
use vgpu::timeline::{Owner, Span, Timeline, What};
use vgpu::{Checks, Launch};

/// A kernel with a buffer in `%a`, 16 KiB at `tile` and an mbarrier for one arrival at `bar`, after 8 instructions of
/// each warp.
fn kernel(body: &str) -> String {
    let sums: String = (0..32).map(|i| format!("mov.b32 %d{i}, 0;")).collect();
    format!(
        ".version 8.7\n.target sm_90a\n.address_size 64\n.entry k(.param .u64 pa) {{\n\
         .reg .b64 %a, %x; .reg .b32 %t, %w, %r<16>, %d<32>; .reg .pred %p<8>;\n\
         .shared .align 1024 .b8 tile[16384]; .shared .align 8 .b64 bar;\n\
         ld.param.u64 %a, [pa];\nmov.u32 %t, %tid.x;\nshr.u32 %w, %t, 5;\nsetp.eq.u32 %p0, %t, 0;\n\
         mov.u32 %r0, 1;\n@%p0 mbarrier.init.shared.b64 [bar], %r0;\n{sums}\n{body}\nret;\n}}\n"
    )
}

fn timeline(body: &str, threads: u32) -> Timeline {
    let gpu = Gpu::new(&kernel(body));
    let a = gpu.upload(&vec![0u32; 4096]);
    let shape = launch(1, threads, &[a]);
    // Snippets do nothing to prepare memory.
    let shape = Launch { timeline: true, checks: Some(Checks::NONE), ..shape };
    let report = gpu.launch("k", &shape).unwrap_or_else(|error| panic!("{error}"));
    let timeline = report.timeline.expect("a timeline was asked for");
    for track in timeline.tracks.iter().filter(|track| track.owner != Owner::Copies) {
        let ends = track.spans.windows(2).all(|pair| pair[0].end <= pair[1].start);
        assert!(ends, "one thing after the other: {track:?}");
    }
    timeline
}

fn spans(timeline: &Timeline, owner: Owner) -> &[Span] {
    let track = timeline.tracks.iter().find(|track| track.owner == owner);
    track.map_or(&[], |track| &track.spans)
}

fn only(timeline: &Timeline, owner: Owner, what: What) -> Span {
    let found: Vec<&Span> = spans(timeline, owner).iter().filter(|it| it.what == what).collect();
    assert_eq!(found.len(), 1, "{what:?} of {owner:?} in {timeline:#?}");
    *found[0]
}

fn adds(count: usize) -> String {
    "add.u32 %r1, %r1, 1;\n".repeat(count)
}

const WAIT: &str =
    "$wait: mbarrier.try_wait.parity.shared::cta.b64 %p1, [bar], 0;\n@!%p1 bra $wait;\n";

#[test]
fn none_is_made_unasked() {
    let gpu = Gpu::new(&kernel(""));
    let a = gpu.upload(&[0u32]);
    assert_eq!(gpu.run("k", 1, 32, &[a]).timeline, None);
}

#[test]
fn warps_of_one_scheduler_share_its_cycles() {
    let cycles = |threads| timeline(&adds(1000), threads).cycles;
    let one = cycles(32);
    assert!(one >= 1000, "{one}");
    assert_eq!(cycles(128), one, "four schedulers for four warps");
    assert_eq!(cycles(160), 2 * one, "the fifth shares the first's");
}

#[test]
fn a_wait_ends_with_the_arrival() {
    let body = format!(
        "bar.sync 0;\nsetp.ne.u32 %p2, %w, 0;\n@%p2 bra $other;\n{}\
         @%p0 mbarrier.arrive.shared.b64 _, [bar];\nbra $end;\n$other: {WAIT}$end:\n",
        adds(500)
    );
    let timeline = timeline(&body, 64);
    let wait = only(&timeline, Owner::Warp(1), What::WaitMbarrier);
    let arrival = timeline.cycles.min(wait.end);
    assert!(wait.end - wait.start >= 490, "{wait:?}");
    // Behind it the waiting warp has its branch and its end.
    assert!(timeline.cycles - arrival <= 10, "{timeline:#?}");
}

#[test]
fn products_follow_each_other_on_the_tensor_core_and_the_wait_ends_with_the_last() {
    let sums: Vec<String> = (0..32).map(|i| format!("%d{i}")).collect();
    let product = format!(
        "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 {{{}}}, %x, %x, 1, 1, 1, 0, 0;\n",
        sums.join(", ")
    );
    let body = format!(
        "mov.u32 %r5, tile;\nshr.u32 %r5, %r5, 4;\ncvt.u64.u32 %x, %r5;\nor.b64 %x, %x, 0x4000004000010000;\n\
         wgmma.fence.sync.aligned;\n{}wgmma.commit_group.sync.aligned;\nwgmma.wait_group.sync.aligned 0;\n{}",
        product.repeat(4),
        adds(20)
    );
    let timeline = timeline(&body, 256);
    for core in 0..4 {
        let products = spans(&timeline, Owner::TensorCore(core));
        assert_eq!(products.len(), 8, "of two warps");
        // 16 rows times 64 columns times 16 of K: 512 multiplications a cycle.
        assert!(products.iter().all(|it| it.end - it.start == 32), "{products:?}");
        let last = products.iter().filter(|it| it.warp == core).map(|it| it.end).max();
        let wait = only(&timeline, Owner::Warp(core), What::WaitProducts);
        assert_eq!(Some(wait.end), last);
    }
    let tensor = timeline.tensor_use().expect("there are products");
    assert_eq!(tensor.busy, 4 * 8 * 32);
    // The first warpgroup's work behind its products goes on beside the second's products.
    assert!(tensor.hidden >= 4 * 20 && tensor.hidden <= tensor.behind, "{tensor:?}");
}

#[test]
fn a_copy_takes_its_bytes_and_a_latency() {
    let body = format!(
        "bar.sync 0;\n@!%p0 bra $wait;\nmbarrier.arrive.expect_tx.shared.b64 _, [bar], 6400;\n\
         cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [tile], [%a], 6400, [bar];\n{WAIT}"
    );
    let timeline = timeline(&body, 32);
    let copy = only(&timeline, Owner::Copies, What::Copy);
    assert_eq!(copy.end - copy.start, 100 + 700);
    assert_eq!(only(&timeline, Owner::Warp(0), What::WaitMbarrier).end, copy.end);
}

#[test]
fn copies_without_a_barrier_are_waited_for_by_their_groups() {
    let body = "cp.async.bulk.global.shared::cta.bulk_group [%a], [tile], 640;\ncp.async.bulk.commit_group;\n\
         cp.async.bulk.wait_group 0;\n";
    let timeline = timeline(&format!("@!%p0 bra $end;\n{body}$end:"), 32);
    let copy = only(&timeline, Owner::Copies, What::Copy);
    assert_eq!(only(&timeline, Owner::Warp(0), What::WaitCopies).end, copy.end);
}
