//! Bytes without values, and memory that is gone.

use super::support::{Gpu, launch};
use super::{BLOCK, WARP, kernel, make, wait};

#[test]
fn global_memory_has_values_once_somebody_wrote_it() {
    let body = |first: &str, address: &str| {
        format!("{first}\n@%p7 ld.global.u32 %r1, [{address}];\nadd.u32 %r1, %r1, 1;")
    };
    let message = "global read of 4 bytes at";
    WARP.finds(&body("", "%b+8"), message, "ld.global.u32", "");
    WARP.finds(
        &body("@%p7 st.global.u16 [%b+8], 1;", "%b+8"),
        "byte 10 of the 4096",
        "ld.global",
        "",
    );
    WARP.passes(&body("@%p7 st.global.u32 [%b+8], 1;", "%b+8"));
    WARP.passes(&body("", "%a+8"));
    let atomic = "@%p7 atom.global.add.u32 %r1, [%b], 1;\nadd.u32 %r1, %r1, 1;";
    WARP.finds(atomic, "global atomic of 4 bytes", "atom.global.add", "");
}

#[test]
fn shared_memory_has_no_values_at_the_start() {
    let message = "that nobody has written: byte 4 of block (0, 0, 0)'s shared memory";
    let read = "ld.shared.v2.u32 {%r1, %r2}, [tile];\nadd.u32 %r1, %r1, %r2;";
    BLOCK.finds(
        &format!("@%p7 st.shared.u32 [tile], 1;\nbar.sync 0;\n{read}"),
        message,
        "ld.shared",
        "",
    );
    BLOCK.passes(&format!("@%p7 st.shared.u64 [tile], %rd1;\nbar.sync 0;\n{read}"));
}

#[test]
fn values_that_are_only_moved_may_have_gaps() {
    // A copy of a structure with padding; an addition looks at the padding.
    let copy = "@%p7 ld.global.v2.u32 {%r1, %r2}, [%b];\n@%p7 st.global.v2.u32 [%a], {%r1, %r2};";
    WARP.passes(copy);
    let used = format!("{copy}\nadd.u32 %r3, %r2, 1;");
    WARP.finds(&used, "that nobody has written", "ld.global.v2", "");
}

#[test]
fn copies_bring_values_as_far_as_their_source_has_any() {
    let body = |source: &str| {
        format!(
            "{}@!%p7 bra $wait;\nmov.u32 %r1, tile;\nmov.u32 %r2, bar;\n\
             mbarrier.arrive.expect_tx.shared::cta.b64 _, [bar], 64;\n\
             cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%r1], [{source}], 64, [%r2];\n\
             $wait: {}ld.shared.u32 %r3, [tile+60];\nadd.u32 %r3, %r3, 1;",
            make(1),
            wait("w", 0)
        )
    };
    WARP.passes(&body("%a"));
    WARP.finds(&body("%b"), "shared read of 4 bytes", "ld.shared.u32", "");
}

#[test]
fn freed_memory_is_named() {
    let gpu = Gpu::new(&kernel("", "@%p7 ld.global.u32 %r1, [%a+4];"));
    let (gone, other) = (gpu.upload(&[1u32; 4]), gpu.upload(&[1u32; 4]));
    gpu.memory.free(gone).expect("it was allocated");
    let fault = gpu.fault("k", 1, 32, &[gone, other]).to_string();
    assert!(fault.contains(&format!("byte 4 of 16 bytes at {gone:#x} that were freed")), "{fault}");
    gpu.run("k", 1, 32, &[other, other]);
}

#[test]
fn variables_are_named_near_an_access_out_of_bounds() {
    let text = kernel("", "@%p7 ld.global.u32 %r1, [table+40];")
        .replace(".entry", ".global .align 4 .b8 table[40];\n.entry");
    let gpu = Gpu::new(&text);
    let fault = gpu.fault("k", 1, 32, &[0, 0]).to_string();
    assert!(fault.contains("byte 40 of the 40 bytes") && fault.contains("(`table`)"), "{fault}");
    let inside = Gpu::new(&text.replace("[table+40]", "[table+36]"));
    inside.launch("k", &launch(1, 32, &[0, 0])).expect("the variable is zero");
}

#[test]
fn an_unchecked_launch_leaves_no_false_alarms() {
    use vgpu::{Checks, Launch};
    let writes = "shl.b32 %r1, %me, 2;\ncvt.u64.u32 %rd1, %r1;\nadd.u64 %rd1, %b, %rd1;\n";
    let gpu = Gpu::new(&kernel("", &format!("{writes}st.global.u32 [%rd1], 1;")));
    let b = gpu.memory.alloc(0, 128).expect("room");
    let blind = Launch { checks: Some(Checks::RACES), ..launch(1, 32, &[b, b]) };
    gpu.launch("k", &blind).expect("the kernel is right");
    let reader = kernel("", &format!("{writes}ld.global.u32 %r2, [%rd1];\nadd.u32 %r2, %r2, 1;"));
    let program = std::sync::Arc::new(vgpu::Program::load(&reader).expect("a module"));
    let image = vgpu::Image::load(program, gpu.memory.clone(), 0).expect("room");
    image.launch("k", &launch(1, 32, &[b, b])).expect("the words were written");
}
