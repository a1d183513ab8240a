//! Copies of the kernel with one mistake each, made by an edit of its PTX.

use super::{CASE, Case, GEMM};
use vgpu::{Asynchrony, Fault, LaunchError};

/// One tile and one stage: nothing is loaded twice.
const ONE_STEP: Case = Case { m: 64, n: 64, k: 64, blocks: 1, ..CASE };
/// Three tiles for each of two blocks, five steps each: stages and the buffer of sums are used again.
const MANY: Case = CASE;

/// The text of the kernel, in which `from` is found for the `nth` time and replaced.
fn edit(nth: usize, from: &str, to: &str) -> String {
    let start = GEMM.find(".entry gemm_bf16_64x64").expect("the kernel");
    let mut at = start;
    for _ in 0..nth {
        at += GEMM[at..].find(from).expect("the text to edit") + from.len();
    }
    let at = at + GEMM[at..].find(from).expect("the text to edit");
    let end = GEMM[at..].find("\n}\n").expect("the kernel's end");
    assert!(end > 0 && !GEMM[start..at].contains("\n}\n"), "`{from}` is in another kernel");
    format!("{}{to}{}", &GEMM[..at], &GEMM[at + from.len()..])
}

/// The same with all occurrences.
fn without(line: &str) -> String {
    assert!(GEMM.contains(line), "`{line}`");
    GEMM.replace(line, "")
}

/// The copy's mistake is found in every mode, with one of the messages, at or after the instruction.
fn finds(case: Case, ptx: &str, messages: &[&str], instruction: &str) {
    for mode in [Asynchrony::Earliest, Asynchrony::Latest, Asynchrony::Random(3)] {
        let fault: Fault = match case.run(ptx, mode) {
            Err(LaunchError::Fault(fault)) => *fault,
            Err(error) => panic!("{mode:?}: {error}"),
            Ok(_) => panic!("{mode:?}: nothing was found"),
        };
        let text = fault.to_string();
        assert!(messages.iter().any(|message| text.contains(message)), "{mode:?}: {text}");
        assert!(text.contains(instruction), "{mode:?}: {text}");
    }
}

#[test]
fn sums_are_stored_without_a_proxy_fence() {
    let ptx = without("fence.proxy.async.shared::cta;");
    let message = "tensor store's shared read of 16384 bytes";
    finds(ONE_STEP, &ptx, &[message], "without fence.proxy.async");
    finds(ONE_STEP, &ptx, &[message], "the generic write: PTX line");
}

#[test]
fn a_product_comes_without_a_wgmma_fence() {
    let ptx = without("wgmma.fence.sync.aligned;");
    finds(ONE_STEP, &ptx, &["wgmma.fence"], "wgmma.mma_async");
}

#[test]
fn sums_are_read_before_the_wait_for_the_product() {
    let ptx = without("wgmma.wait_group.sync.aligned 0;");
    let message = "a register of the sum of a product is read before the wait for it";
    finds(ONE_STEP, &ptx, &[message], "wgmma.mma_async");
}

#[test]
fn a_stage_is_given_back_before_the_wait_for_the_product() {
    // The wait moves behind the loop over K.
    let ptx = without("wgmma.wait_group.sync.aligned 0;")
        .replace("bar.sync 1, 128;", "wgmma.wait_group.sync.aligned 0;\nbar.sync 1, 128;");
    let message = "tensor load's shared write of 8192 bytes";
    finds(MANY, &ptx, &[message], "races with an asynchronous read");
    // With no more steps than stages nothing is overwritten.
    for mode in [Asynchrony::Earliest, Asynchrony::Latest] {
        ONE_STEP.run(&ptx, mode).expect("a late wait is right here");
    }
}

/// The wait at an mbarrier of the kernel: 0 for the loader's, 1 for the multipliers'.
fn without_wait(nth: usize) -> String {
    let wait = "mbarrier.try_wait.parity.shared::cta.b64 p, ";
    let ptx = edit(nth, wait, "setp.eq.u32 p, 1, 1; // ");
    // The rest of the line picks the predicate up.
    let at = ptx.find("setp.eq.u32 p, 1, 1; // ").expect("the edit");
    let rest = ptx[at..].find("selp").expect("the rest of the line");
    format!("{}setp.eq.u32 p, 1, 1; {}", &ptx[..at], &ptx[at + rest..])
}

#[test]
fn a_stage_is_loaded_without_a_wait_for_it_to_be_empty() {
    // In some orders the mbarrier that counts the bytes shows it first.
    let all = ["races with an asynchronous", "1 arrivals at an mbarrier that waits for 0"];
    finds(MANY, &without_wait(0), &all, "gemm.cu");
}

#[test]
fn a_stage_is_multiplied_without_a_wait_for_it_to_be_full() {
    let both = ["races with an asynchronous read", "races with an asynchronous write"];
    finds(MANY, &without_wait(1), &both, "wgmma");
}

#[test]
fn fewer_bytes_are_expected_than_come() {
    let ptx = edit(0, "16384;", "8192;");
    let messages = ["races with an asynchronous", "8192 bytes issued in it were not expected"];
    finds(MANY, &ptx, &messages, "cp.async.bulk.tensor.2d.shared");
}

#[test]
fn more_bytes_are_expected_than_come() {
    let ptx = edit(0, "16384;", "16400;");
    finds(
        MANY,
        &ptx,
        &["0 of 1 arrivals and 16 bytes are missing", "deadlock"],
        "16 bytes are missing",
    );
}

#[test]
fn a_wait_has_the_wrong_parity() {
    // The loader's first wait must pass at once.
    let stuck = edit(0, "not.b32", "mov.b32");
    finds(MANY, &stuck, &["deadlock"], "128 of 128 arrivals");
    // The multipliers' must not.
    let early = edit(0, "and.b32  \t%r14, %r73, 1;", "not.b32 %r14, %r73; and.b32 %r14, %r14, 1;");
    finds(MANY, &early, &["races with an asynchronous", "deadlock"], "PTX line");
    let found = MANY.run(&early, Asynchrony::Latest).expect_err("the parity is wrong").to_string();
    assert!(found.contains("races with an asynchronous"), "{found}");
}

#[test]
fn mbarriers_are_not_fenced_after_their_initialisation() {
    let ptx = without("fence.mbarrier_init.release.cluster;");
    finds(ONE_STEP, &ptx, &["was not followed by fence.mbarrier_init"], "mbarrier.init.shared");
}

#[test]
fn threads_do_not_wait_for_the_initialisation() {
    let ptx = without("bar.sync \t0;");
    let messages = ["no mbarrier was initialised", "has not synchronised with its initialisation"];
    finds(ONE_STEP, &ptx, &messages, "mbarrier.try_wait");
}

#[test]
fn sums_are_overwritten_before_they_were_stored() {
    let message = ["races with an asynchronous read"];
    let ptx = without("cp.async.bulk.wait_group.read 0;");
    finds(MANY, &ptx, &message, "cp.async.bulk.tensor.2d.global");
    // Other threads must know of the wait too.
    let ptx = without("bar.sync 1, 128;");
    finds(MANY, &ptx, &["races with an asynchronous read", "races with"], "st.shared");
}

#[test]
fn a_store_does_not_wait_for_all_sums() {
    let ptx = without("bar.sync 2, 128;");
    let both = ["races with an earlier write", "races with an asynchronous read"];
    finds(ONE_STEP, &ptx, &both, "cp.async.bulk.tensor.2d.global");
}

#[test]
fn sums_go_behind_the_end_of_shared_memory() {
    // The buffer of sums lies one tile too far.
    let ptx = edit(0, "49152;", "65536;");
    finds(ONE_STEP, &ptx, &["is out of bounds: shared memory is"], "st.shared");
}

#[test]
fn a_stage_lies_behind_the_end_of_shared_memory() {
    let ptx = edit(0, "shl.b32 \t%r27, %r26, 14;", "shl.b32 \t%r27, %r26, 16;");
    finds(MANY, &ptx, &["is out of bounds", "outside of"], "cp.async.bulk.tensor");
}

#[test]
fn registers_are_asked_for_that_nobody_gave_back() {
    let ptx = without("setmaxnreg.dec.sync.aligned.u32 40;");
    finds(ONE_STEP, &ptx, &["deadlock"], "72 more registers per thread, of which the block has 0");
}

#[test]
fn stages_are_never_given_back() {
    let ptx = without("mbarrier.arrive.shared::cta.b64 _, [%r81];");
    finds(MANY, &ptx, &["deadlock"], "128 of 128 arrivals and 0 bytes are missing");
}

#[test]
fn an_mbarrier_waits_for_too_few_arrivals() {
    let ptx = edit(0, "mov.u32 \t%r51, 128;", "mov.u32 \t%r51, 32;");
    finds(MANY, &ptx, &["races with an asynchronous read", "arrivals"], "PTX line");
}
