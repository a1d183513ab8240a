//! The generic and the async proxy, and operations in flight.

use vgpu::Asynchrony;

use super::{BLOCK, WARP, make, wait};

/// All threads fill 256 bytes of `tile`; thread 0 sends them to `b`.
fn send(before: &str, after: &str) -> String {
    format!(
        "shl.b32 %r1, %me, 2;\nmov.u32 %r2, tile;\nadd.u32 %r3, %r2, %r1;\nst.shared.u32 [%r3], %me;\n\
         {before}\n@!%p7 bra $end;\ncp.async.bulk.global.shared::cta.bulk_group [%b], [%r2], 256;\n\
         cp.async.bulk.commit_group;\n{after}\n$end:"
    )
}

const WAIT: &str = "cp.async.bulk.wait_group 0;";

#[test]
fn a_proxy_fence_lies_between_stores_and_a_copy() {
    let message = "through the async proxy after a generic write without fence.proxy.async";
    let found = |before: &str| {
        BLOCK.finds(&send(before, WAIT), message, "cp.async.bulk.global", "st.shared.u32");
    };
    found("bar.sync 0;");
    // Before the stores that other threads make, the fence of one thread does nothing.
    found("@%p7 fence.proxy.async;\nbar.sync 0;");
    BLOCK.passes(&send("fence.proxy.async.shared::cta;\nbar.sync 0;", WAIT));
    BLOCK.passes(&send("bar.sync 0;\nfence.proxy.async;", WAIT));
    let race = "races with an earlier write";
    BLOCK.finds(&send("fence.proxy.async;", WAIT), race, "cp.async.bulk.global", "st.shared.u32");
}

#[test]
fn a_copys_source_stays_until_it_was_read() {
    let rewrite = |wait: &str| {
        send("fence.proxy.async;\nbar.sync 0;", &format!("{wait}\nst.shared.u32 [tile], 1;"))
    };
    let message = "races with an asynchronous read that this thread does not know to have ended";
    BLOCK.finds(&rewrite(""), message, "st.shared.u32 [tile], 1", "cp.async.bulk.global");
    BLOCK.finds(
        &rewrite("cp.async.bulk.wait_group.read 1;"),
        message,
        "st.shared.u32 [tile], 1",
        "cp.async.bulk.global",
    );
    BLOCK.passes(&rewrite("cp.async.bulk.wait_group.read 0;"));
    // What was written to global memory is there after the whole wait only.
    let back = |wait: &str| {
        let read = "ld.global.u32 %r4, [%b];\nadd.u32 %r4, %r4, 1;";
        send("fence.proxy.async;\nbar.sync 0;", &format!("{wait}\n{read}"))
    };
    let early = "races with an asynchronous write";
    BLOCK.finds(
        &back("cp.async.bulk.wait_group.read 0;"),
        early,
        "ld.global.u32",
        "cp.async.bulk.global",
    );
    BLOCK.passes(&back(WAIT));
}

/// Thread 0 loads 128 bytes to `tile`; `before` precedes the copy, `after` follows in all threads.
fn load(before: &str, after: &str) -> String {
    format!(
        "@%p7 st.shared.u32 [tile+8], 0;\nfence.proxy.async;\n{}@!%p7 bra $wait;\n\
         mov.u32 %r1, tile;\nmov.u32 %r2, bar;\n{before}\n\
         mbarrier.arrive.expect_tx.shared::cta.b64 _, [bar], 128;\n\
         cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%r1], [%a], 128, [%r2];\n\
         $wait: {after}",
        make(1)
    )
}

const USE: &str = "ld.shared.u32 %r3, [tile+8];\nadd.u32 %r3, %r3, 1;\n";

#[test]
fn a_copys_target_is_read_when_its_phase_is_over() {
    let found = |after: &str| {
        BLOCK.finds(&load("", after), "races with", "ld.shared.u32", "cp.async.bulk.shared");
    };
    found(&format!("bar.sync 0;\n{USE}{}", wait("w", 0)));
    found(&format!("@!%p7 bra $other;\n{}$other: bar.warp.sync -1;\n{USE}", wait("w", 0)));
    BLOCK.passes(&load("", &format!("{}{USE}", wait("w", 0))));
    let early = load("", &format!("bar.sync 0;\n{USE}{}", wait("w", 0)));
    let Err(fault) = BLOCK.run(&early, Asynchrony::Earliest) else { panic!("not found") };
    let message = "races with an asynchronous write that this thread does not know to have ended";
    assert!(fault.to_string().contains(message), "{fault}");
    let one = format!("@!%p7 bra $other;\n{}$other: bar.sync 0;\n{USE}", wait("w", 0));
    BLOCK.passes(&load("", &one));
}

#[test]
fn a_copy_overwrites_generic_stores_behind_a_fence() {
    let message = "without fence.proxy.async";
    let store = "st.shared.u32 [tile], 0;";
    let body = |fence: &str| load(&format!("{store}\n{fence}"), &format!("{}{USE}", wait("w", 0)));
    BLOCK.finds(&body(""), message, "cp.async.bulk.shared", "st.shared.u32 [tile], 0");
    BLOCK.passes(&body("fence.proxy.async;"));
}

#[test]
fn a_new_mbarrier_is_fenced_before_the_async_proxy_signals_it() {
    let right = load("", &format!("{}{USE}", wait("w", 0)));
    let bare = right.replace("fence.mbarrier_init.release.cluster;\n", "");
    let bare = bare.replace("fence.proxy.async;\n", "").replace("[tile+8], 0", "[tile+512], 0");
    BLOCK.finds(&bare, "was not followed by fence.mbarrier_init", "cp.async.bulk", "mbarrier.init");
    let async_fence = right.replace("fence.mbarrier_init.release.cluster", "fence.proxy.async");
    BLOCK.passes(&async_fence);
}

#[test]
fn generic_writes_to_global_memory_need_the_fence_too() {
    let body = |fence: &str| {
        let before = format!("st.global.u32 [%a], 5;\n{fence}");
        load(&before, &format!("{}{USE}", wait("w", 0)))
    };
    BLOCK.finds(&body(""), "bulk copy's global read", "cp.async.bulk", "st.global.u32");
    BLOCK.passes(&body("fence.proxy.async.global;"));
}

#[test]
fn reductions_by_copies_meet_atomics() {
    let body = |other: &str| {
        format!(
            "@!%p7 bra $end;\nst.shared.v4.u32 [tile], {{%me, %me, %me, %me}};\nfence.proxy.async;\n\
             mov.u32 %r2, tile;\n\
             cp.reduce.async.bulk.global.shared::cta.bulk_group.add.u32 [%a], [%r2], 16;\n\
             cp.async.bulk.commit_group;\n{other}\n{WAIT}\n$end:"
        )
    };
    WARP.passes(&body("red.global.add.u32 [%a], 1;"));
    WARP.finds(
        &body("st.global.u32 [%a], 1;"),
        "races with",
        "st.global.u32",
        "cp.reduce.async.bulk",
    );
}
