//! mbarriers and named barriers used against their rules.

use super::{BLOCK, CLUSTER, WARP, make, wait};

#[test]
fn an_mbarrier_is_made_before_it_is_used() {
    let body = |between: &str| {
        format!(
            "@%p7 mbarrier.init.shared.b64 [bar], 64;\n{between}\n\
             mbarrier.arrive.shared::cta.b64 _, [bar];\n{}",
            wait("w", 0)
        )
    };
    BLOCK.passes(&body("bar.sync 0;"));
    let message = "has not synchronised with its initialisation";
    BLOCK.finds(&body("nanosleep.u32 10;"), message, "mbarrier.arrive", "mbarrier.init");
    // The bits of an mbarrier alone do not make one.
    let forged = format!(
        "mov.u64 %rd1, 0x4000000000100001;\n@%p7 st.shared.u64 [bar], %rd1;\nbar.sync 0;\n{}",
        "@%p7 mbarrier.arrive.shared::cta.b64 _, [bar];"
    );
    BLOCK.finds(&forged, "no mbarrier was initialised", "mbarrier.arrive", "");
}

#[test]
fn a_relaxed_arrival_tells_of_mbarriers_behind_their_fence() {
    let body = |fence: &str| {
        let wait = wait("w", 0);
        format!(
            "@%p7 mbarrier.init.shared.b64 [bar], 1;\n{fence}barrier.cluster.arrive.relaxed;\n\
             barrier.cluster.wait;\nmov.u32 %r1, %cluster_ctarank;\nmov.u32 %r2, bar;\n\
             mapa.shared::cluster.u32 %r3, %r2, 0;\nsetp.eq.u32 %p1, %r1, 1;\n\
             and.pred %p2, %p1, %p7;\n\
             @%p2 mbarrier.arrive.release.cluster.shared::cluster.b64 _, [%r3];\n\
             @%p1 bra $end;\n{wait}$end: barrier.cluster.arrive;\nbarrier.cluster.wait;"
        )
    };
    CLUSTER.passes(&body("fence.mbarrier_init.release.cluster;\n"));
    let message = "has not synchronised with its initialisation";
    CLUSTER.finds(&body(""), message, "mbarrier", "mbarrier.init");
    CLUSTER.finds(&body("fence.proxy.async;\n"), message, "mbarrier", "mbarrier.init");
}

#[test]
fn an_mbarrier_is_not_overwritten_while_it_is_valid() {
    let body = |before: &str| {
        format!("{}@!%p7 bra $end;\n{before}\nst.shared.u32 [bar], 1;\n$end:", make(1))
    };
    BLOCK.finds(&body(""), "over a valid mbarrier", "st.shared.u32", "mbarrier.init");
    BLOCK.passes(&body("mbarrier.inval.shared.b64 [bar];"));
}

#[test]
fn bytes_that_never_come_are_told_at_the_end() {
    let body = |bytes: u32, after: &str| {
        format!(
            "{}@!%p7 bra $end;\nmov.u32 %r1, tile;\nmov.u32 %r2, bar;\n\
             mbarrier.arrive.expect_tx.shared::cta.b64 _, [bar], {bytes};\n\
             cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%r1], [%a], 128, [%r2];\n\
             {after}\n$end:",
            make(1)
        )
    };
    let waits = "have ended and the mbarrier at 0x1400 waits for 16 bytes";
    BLOCK.finds(&body(144, ""), waits, "", "mbarrier.init");
    BLOCK.finds(&body(112, ""), "0x1400 has got 16 bytes too many", "", "mbarrier.init");
    BLOCK.passes(&body(128, ""));
    let inval = "mbarrier.inval.shared.b64 [bar];";
    BLOCK.finds(
        &body(144, inval),
        "mbarrier.inval of the mbarrier",
        "mbarrier.inval",
        "cp.async.bulk",
    );
    BLOCK.passes(&body(128, &format!("{}{inval}", wait("w", 0))));
}

#[test]
fn threads_of_a_barrier_agree_on_their_number() {
    let body = |second: u32| {
        format!(
            "setp.lt.u32 %p1, %me, 32;\n@%p1 bra $low;\nbar.sync 2, {second};\nbra $end;\n\
             $low: bar.sync 2, 64;\n$end:"
        )
    };
    BLOCK.finds(&body(96), "while others wait at it for", "bar.sync 2", "bar.sync 2");
    BLOCK.finds(&body(48), "not a multiple of 32", "bar.sync 2, 48", "");
    BLOCK.passes(&body(64));
}

#[test]
fn arrivals_beyond_the_count_are_named() {
    let body = |count: u32| {
        format!("{}mbarrier.arrive.shared::cta.b64 _, [bar];\n{}", make(count), wait("w", 0))
    };
    WARP.passes(&body(32));
    let twice = "mbarrier.arrive.shared::cta.b64 _, [bar], 3;";
    let beyond = format!("{}@%p7 {twice}", make(2));
    WARP.finds(
        &beyond,
        "3 arrivals at an mbarrier that waits for 2",
        "mbarrier.arrive",
        "mbarrier.init",
    );
}

#[test]
fn threads_that_ended_are_counted_in_a_deadlock() {
    let body = |id: &str| format!("setp.ge.u32 %p1, %me, 32;\n@%p1 ret;\nbar.sync {id};");
    let Err(fault) = BLOCK.run(&body("1, 64"), vgpu::Asynchrony::Earliest) else {
        panic!("nothing was found")
    };
    let text = fault.to_string();
    assert!(text.contains("wait at barrier 1, where 32 of 64 threads are"), "{text}");
    assert!(text.contains("32 threads of the block have ended"), "{text}");
    // All threads of the block are those that have not ended.
    BLOCK.passes(&body("0"));
}

#[test]
fn shared_memory_of_a_block_that_ended_is_gone() {
    let body = |last: &str| {
        format!(
            "@%p7 st.shared.u32 [tile], 3;\nbarrier.cluster.arrive;\nbarrier.cluster.wait;\n\
             mov.u32 %r1, %cluster_ctarank;\nsetp.eq.u32 %p1, %r1, 1;\n@%p1 bra $end;\n\
             mov.u32 %r2, tile;\nmapa.shared::cluster.u32 %r2, %r2, 1;\nnanosleep.u32 100;\n\
             nanosleep.u32 100;\nld.shared::cluster.u32 %r3, [%r2];\nadd.u32 %r3, %r3, 1;\n$end: {last}"
        )
    };
    CLUSTER.passes(&body("barrier.cluster.arrive;\nbarrier.cluster.wait;"));
    let Err(fault) = CLUSTER.run(&body(""), vgpu::Asynchrony::Earliest) else {
        panic!("nothing was found")
    };
    assert!(fault.to_string().contains("of a block that has ended"), "{fault}");
}
