//! Accesses that nothing orders.

use vgpu::Asynchrony;

use super::{BLOCK, CLUSTER, GRID, WARP, make, wait};

/// Each thread writes its word of `tile`, then `between`, then reads another thread's word.
fn exchange(between: &str, distance: u32) -> String {
    format!(
        "shl.b32 %r1, %me, 2;\nmov.u32 %r2, tile;\nadd.u32 %r3, %r2, %r1;\nst.shared.u32 [%r3], 0;\n\
         bar.sync 0;\nst.shared.u32 [%r3], %me;\n\
         {between}\nxor.b32 %r1, %r1, {};\nadd.u32 %r3, %r2, %r1;\nld.shared.u32 %r4, [%r3];\n\
         add.u32 %r4, %r4, 1;",
        4 * distance
    )
}

#[test]
fn words_are_exchanged_within_a_block_at_a_barrier() {
    // In some orders the other warp's store comes behind the load.
    let race = "races with an earlier";
    BLOCK.finds(&exchange("", 32), race, "ld.shared.u32", "st.shared.u32");
    // A barrier of the warp does not order the block.
    BLOCK.finds(&exchange("bar.warp.sync -1;", 32), race, "ld.shared.u32", "st.shared.u32");
    for good in
        ["bar.sync 0;", "bar.sync 3, 64;", "barrier.sync 0;", "bar.red.popc.u32 %r9, 0, %p7;"]
    {
        BLOCK.passes(&exchange(good, 32));
    }
}

#[test]
fn words_are_exchanged_within_a_warp_at_a_warp_barrier() {
    let race = "races with an earlier write";
    WARP.finds(&exchange("", 1), race, "ld.shared.u32", "st.shared.u32");
    WARP.finds(&exchange("bar.warp.sync 0xffff;", 16), "outside of its own", "bar.warp.sync", "");
    WARP.passes(&exchange("bar.warp.sync -1;", 1));
    // Each thread's own word needs no barrier.
    WARP.passes(&exchange("", 0));
}

#[test]
fn a_barrier_between_reads_and_the_next_write_is_missed() {
    let rewrite = |between: &str| {
        let store = "setp.eq.u32 %p3, %me, 32;\n@%p3 st.shared.u32 [%r2+128], 5;";
        format!("{}{between}\n{store}", exchange("bar.sync 0;", 32))
    };
    BLOCK.finds(&rewrite(""), "races with an earlier", "@%p3 st.shared.u32", "ld.shared.u32");
    let Err(fault) = BLOCK.run(&rewrite(""), Asynchrony::Earliest) else { panic!("not found") };
    assert!(fault.to_string().contains("races with an earlier read"), "{fault}");
    BLOCK.passes(&rewrite("bar.sync 0;"));
}

#[test]
fn threads_of_one_instruction_may_write_the_same_but_no_different_values() {
    let race = "races with an earlier write";
    WARP.finds("st.shared.u32 [tile], %me;", race, "st.shared.u32", "st.shared.u32");
    WARP.passes("st.shared.u32 [tile], 5;\nld.shared.u32 %r1, [tile];\nadd.u32 %r1, %r1, 1;");
    // Other warps that store what is there already do no harm either.
    BLOCK.passes("st.shared.u32 [tile], 5;");
    BLOCK.finds(
        "shr.u32 %r1, %me, 5;\nst.shared.u32 [tile], %r1;",
        race,
        "st.shared.u32",
        "st.shared",
    );
}

#[test]
fn neighbouring_bytes_are_no_race() {
    let bytes = |shift: u32| {
        format!(
            "shr.u32 %r1, %me, {shift};\nmov.u32 %r2, tile;\nadd.u32 %r2, %r2, %r1;\n\
             st.shared.u8 [%r2], %me;"
        )
    };
    BLOCK.passes(&bytes(0));
    BLOCK.finds(&bytes(1), "races with an earlier write", "st.shared.u8", "st.shared.u8");
}

/// Block 0 writes a word and sets a flag; block 1 waits for the flag and reads the word.
fn publish(store: &str, load: &str, before: &str, after: &str) -> String {
    format!(
        "mov.u32 %r1, %ctaid.x;\nsetp.ne.u32 %p1, %r1, 0;\n@!%p7 bra $end;\n@%p1 bra $read;\n\
         st.global.u32 [%a], 7;\n{before}\n{store} [%a+64], 1;\nbra $end;\n\
         $read: {load} %r2, [%a+64];\nsetp.ne.u32 %p2, %r2, 1;\n@%p2 bra $read;\n{after}\n\
         ld.global.u32 %r3, [%a];\nadd.u32 %r3, %r3, 1;\n$end:"
    )
}

#[test]
fn flags_carry_what_was_written_before_them_within_their_scope() {
    let (release, acquire) = ("st.release.gpu.global.u32", "ld.acquire.gpu.global.u32");
    let (relaxed, volatile) = ("st.relaxed.gpu.global.u32", "ld.volatile.global.u32");
    let (race, ld) = ("races with an earlier write", "ld.global.u32");
    let st = "st.global.u32 [%a], 7";
    GRID.passes(&publish(release, acquire, "", ""));
    GRID.passes(&publish(relaxed, volatile, "fence.acq_rel.gpu;", "fence.acq_rel.gpu;"));
    GRID.passes(&publish(release, volatile, "", "membar.gl;"));
    GRID.finds(&publish(relaxed, acquire, "", ""), race, ld, st);
    GRID.finds(&publish(release, volatile, "", ""), race, ld, st);
    GRID.finds(&publish(relaxed, volatile, "membar.cta;", "membar.gl;"), race, ld, st);
    // The flag itself must be strong on both sides, and reach the other block.
    let weak = publish("st.global.u32", acquire, "membar.gl;", "");
    GRID.finds(&weak, "races with", "+64]", "+64]");
    let narrow = publish("st.release.cta.global.u32", acquire, "", "");
    GRID.finds(&narrow, "races with an earlier strong", "+64]", "+64]");
    CLUSTER.passes(&publish("st.release.cluster.global.u32", acquire, "", ""));
}

#[test]
fn atomics_meet_each_other_but_no_plain_access() {
    let add = "red.global.add.u32 [%a], 1;\n";
    GRID.passes(add);
    GRID.passes("atom.global.max.u32 %r1, [%a], %me;\nld.relaxed.gpu.global.u32 %r2, [%a];");
    let plain = format!("{add}ld.global.u32 %r1, [%a];\nadd.u32 %r1, %r1, 1;");
    GRID.finds(&plain, "races with", "[%a]", "[%a]");
    let near = "red.cta.global.add.u32 [%a], 1;";
    GRID.finds(near, "races with an earlier strong write", "red.cta", "red.cta");
    BLOCK.passes(near);
}

#[test]
fn a_lock_orders_what_is_done_under_it() {
    let lock = |acquire: &str, release: &str| {
        format!(
            "$again: atom.global.cas.b32 %r1, [%a], 1024, 0;\nsetp.ne.u32 %p1, %r1, 1024;\n@%p1 bra $again;\n\
             {acquire}\nld.global.u32 %r2, [%a+4];\nadd.u32 %r2, %r2, 1;\nst.global.u32 [%a+4], %r2;\n\
             {release}\natom.global.exch.b32 %r3, [%a], 1024;"
        )
    };
    let lock = |acquire: &str, release: &str| {
        let open = "mov.u32 %r9, %ctaid.x;\nor.b32 %r9, %r9, %me;\nsetp.eq.u32 %p4, %r9, 0;\n\
                    @%p4 atom.global.exch.b32 %r8, [%a], 1024;\n";
        format!("{open}{}", lock(acquire, release))
    };
    GRID.passes(&lock("membar.gl;", "membar.gl;"));
    GRID.finds(&lock("membar.gl;", ""), "races with", "[%a+4]", "[%a+4]");
    GRID.finds(&lock("", "membar.gl;"), "races with", "[%a+4]", "[%a+4]");
}

#[test]
fn an_mbarrier_passes_on_what_arriving_threads_did() {
    // Warp 1 writes and arrives, warp 0 waits and reads.
    let body = |arrive_first: bool, wait: &str| {
        let (store, arrive) =
            ("st.shared.u32 [tile], 9;\n", "mbarrier.arrive.shared::cta.b64 _, [bar];\n");
        let both = if arrive_first { [arrive, store] } else { [store, arrive] };
        format!(
            "{}setp.lt.u32 %p1, %me, 32;\n@%p1 bra $low;\n{}{}bra $end;\n\
             $low: {wait}ld.shared.u32 %r1, [tile];\nadd.u32 %r1, %r1, 1;\n$end:",
            make(32),
            both[0],
            both[1]
        )
    };
    BLOCK.passes(&body(false, &wait("w", 0)));
    let found = |body: &str| {
        BLOCK.finds(body, "races with", "[tile]", "[tile]");
    };
    found(&body(true, &format!("{}bar.warp.sync -1;\n", wait("w", 0))));
    // The wrong parity lets everybody through at once: the read comes first.
    let late = body(false, &wait("w", 1));
    let early = late.replace("bra $low;\n", "bra $low;\nnanosleep.u32 1000;\n");
    let with_value = format!("@%p7 st.shared.u32 [tile], 1;\n{early}");
    found(&with_value);
}

#[test]
fn the_clusters_barrier_orders_its_blocks() {
    let body = |between: &str| {
        format!(
            "@%p7 st.shared.u32 [tile], 3;\n{between}\nmov.u32 %r1, %cluster_ctarank;\nxor.b32 %r1, %r1, 1;\n\
             mov.u32 %r2, tile;\nmapa.shared::cluster.u32 %r2, %r2, %r1;\n\
             ld.shared::cluster.u32 %r3, [%r2];\nadd.u32 %r3, %r3, 1;\n\
             barrier.cluster.arrive;\nbarrier.cluster.wait;"
        )
    };
    let meet = "barrier.cluster.arrive;\nbarrier.cluster.wait;";
    CLUSTER.passes(&body(meet));
    let relaxed = "nanosleep.u32 10;\nbarrier.cluster.arrive.relaxed;\nbarrier.cluster.wait;";
    CLUSTER.finds(
        &body(relaxed),
        "races with an earlier write",
        "ld.shared::cluster",
        "st.shared.u32",
    );
}

#[test]
fn copies_are_waited_for_before_their_bytes_are_used() {
    let copy = |wait: &str, other: u32| {
        format!(
            "shl.b32 %r1, %me, 4;\ncvt.u64.u32 %rd1, %r1;\nadd.u64 %rd1, %a, %rd1;\nmov.u32 %r2, tile;\n\
             add.u32 %r3, %r2, %r1;\nst.shared.u32 [%r3], 0;\nbar.sync 0;\ncp.async.cg.shared.global [%r3], [%rd1], 16;\n\
             cp.async.commit_group;\n{wait}\nxor.b32 %r1, %r1, {};\nadd.u32 %r3, %r2, %r1;\n\
             ld.shared.u32 %r4, [%r3];\nadd.u32 %r4, %r4, 1;",
            16 * other
        )
    };
    let unknown = "races with an asynchronous write that this thread does not know to have ended";
    let found = |body: &str| BLOCK.finds(body, unknown, "ld.shared.u32", "cp.async.cg");
    found(&copy("", 0));
    found(&copy("cp.async.wait_group 1;", 0));
    let early = copy("cp.async.wait_group 0;", 32);
    BLOCK.finds(&early, "races with an", "%r3]", "%r3]");
    BLOCK.passes(&copy("cp.async.wait_group 0;", 0));
    BLOCK.passes(&copy("cp.async.wait_all;\nbar.sync 0;", 32));
    let arrive = "cp.async.mbarrier.arrive.noinc.shared::cta.b64 [bar];\n";
    let waited = copy(&format!("{arrive}{}", wait("w", 0)), 32);
    BLOCK.passes(&format!("{}{waited}", make(64)));
}

#[test]
fn accesses_of_other_widths_meet_the_threads_that_own_the_bytes() {
    let body = |store: &str, stride: u32, between: &str, load: &str, other: u32| {
        format!(
            "mov.u32 %r5, 1;\nmov.u32 %r6, 2;\nmov.u32 %r7, 3;\nmov.u32 %r8, 4;\nmov.u32 %r2, tile;\n\
             mad.lo.u32 %r3, %me, {stride}, %r2;\n{store}\n{between}\nmad.lo.u32 %r4, %me, {other}, %r2;\n\
             {load}\nadd.u32 %r1, %r1, 1;"
        )
    };
    let (word, vector) =
        ("st.shared.u32 [%r3], %r5;", "st.shared.v4.u32 [%r3], {%r5, %r6, %r7, %r8};");
    let (byte, read) = ("ld.shared.u8 %r1, [%r4];", "ld.shared.u32 %r1, [%r4];");
    let race = "races with an earlier write";
    // Thread 1 reads the second byte of thread 0's word, or the second word of its four.
    WARP.finds(&body(word, 4, "", byte, 1), race, "ld.shared.u8", "st.shared.u32");
    WARP.finds(&body(vector, 16, "", read, 4), race, "ld.shared.u32", "st.shared.v4");
    WARP.passes(&body(word, 4, "bar.warp.sync -1;", byte, 1));
    WARP.passes(&body(vector, 16, "bar.warp.sync -1;", read, 4));
    // Each reads from its own.
    WARP.passes(&body(word, 4, "", byte, 4));
    WARP.passes(&body(vector, 16, "", read, 16));
    WARP.passes(&body(word, 4, "", read, 4));
    // A store over bytes that others read.
    let over = |between: &str| {
        let load = "ld.shared.u8 %r1, [%r4];";
        format!(
            "{}\n{between}\nst.shared.u32 [%r3], %r6;",
            body(word, 4, "bar.warp.sync -1;", load, 1)
        )
    };
    WARP.finds(&over(""), "races with an earlier read", "st.shared.u32 [%r3], %r6", "ld.shared.u8");
    WARP.passes(&over("bar.warp.sync -1;"));
}
