//! Counts: every number against one that the kernel's text tells.

mod support;

use support::{Gpu, launch};
use vgpu::{Asynchrony, Checks, Counts, Launch, Swizzle, Tally, TensorMap, TensorType};

const HEADER: &str = ".version 8.7\n.target sm_90a\n.address_size 64\n.file 1 \"model.cu\"\n";

/// A kernel `k` with two buffers in `%a` and `%b`, the thread in `%me`, 16 KiB at `tile` and an
/// mbarrier at `bar`.
fn kernel(body: &str) -> String {
    format!(
        "{HEADER}.entry k(.param .u64 pa, .param .u64 pb) {{\n.loc 1 10 1\n\
         .reg .b64 %a, %b, %rd<16>; .reg .b32 %me, %r<32>; .reg .pred %p<8>; .reg .f32 %f<8>;\n\
         .shared .align 1024 .b8 tile[16384]; .shared .align 8 .b64 bar;\n\
         ld.param.u64 %a, [pa];\nld.param.u64 %b, [pb];\nmov.u32 %me, %tid.x;\n.loc 1 20 1\n\
         {body}\n.loc 1 30 1\nret;\n}}\n"
    )
}

fn counts(body: &str, blocks: u32, threads: u32) -> Counts {
    let gpu = Gpu::new(&kernel(body));
    let (a, b) = (gpu.upload(&vec![0u32; 4096]), gpu.upload(&vec![0u32; 4096]));
    // Snippets that are counted do nothing to prepare memory and barriers.
    let shape = Launch { checks: Some(Checks::NONE), ..launch(blocks, threads, &[a, b]) };
    let report = gpu.launch("k", &shape).unwrap_or_else(|error| panic!("{error}"));
    report.counts.expect("counts were asked for")
}

fn total(body: &str) -> Tally {
    counts(body, 1, 32).total
}

#[test]
fn instructions_and_bytes_are_those_of_the_text() {
    let counts = counts("ld.global.u32 %r1, [%a];\nst.global.u32 [%b], %r1;", 2, 64);
    // Four warps of six instructions: two parameters, tid, load, store, ret.
    assert_eq!(counts.total.instructions, 24);
    let classes = [("control", 4), ("load", 12), ("move", 4), ("store", 4)];
    assert_eq!(counts.total.classes, classes.into());
    assert_eq!(counts.total.bytes["global"].read, 128 * 4);
    assert_eq!(counts.total.bytes["global"].written, 128 * 4);
    assert_eq!(counts.total.bytes["param"].read, 2 * 128 * 8);
    assert_eq!(counts.total.global_requests, 8);
    assert_eq!(counts.total.global_sectors, 8);
}

#[test]
fn lines_add_up_to_the_total() {
    let counts = counts("ld.global.u32 %r1, [%a];\nst.global.u32 [%b], %r1;", 2, 64);
    let line = |number: u32| &counts.lines[&("model.cu".to_owned(), number)];
    assert_eq!([line(10), line(20), line(30)].map(|it| it.instructions), [12, 8, 4]);
    assert_eq!([line(10), line(20)].map(|it| it.global_requests), [0, 8]);
    let mut sum = Tally::default();
    counts.lines.values().for_each(|tally| sum += tally);
    assert_eq!(sum, counts.total);
}

#[test]
fn nothing_is_counted_unasked() {
    let gpu = Gpu::new(&kernel("ld.global.u32 %r1, [%a];"));
    let (a, b) = (gpu.upload(&[0u32]), gpu.upload(&[0u32]));
    let report = gpu.launch("k", &Launch { counts: false, ..launch(1, 32, &[a, b]) }).unwrap();
    assert_eq!(report.counts, None);
    assert_eq!(report.instructions, 5);
}

#[test]
fn coalescing_is_the_used_part_of_the_sectors() {
    let strided = |stride: u32, ty: &str| {
        let registers = if ty.starts_with("v4") { "{%r1, %r2, %r3, %r4}" } else { "%r1" };
        let body = format!(
            "mul.wide.u32 %rd1, %me, {stride};\nadd.u64 %rd1, %a, %rd1;\nld.global.{ty} {registers}, [%rd1];"
        );
        let total = total(&body);
        (total.global_sectors, total.coalescing())
    };
    assert_eq!(strided(4, "u32"), (4, Some(1.0)));
    assert_eq!(strided(16, "v4.u32"), (16, Some(1.0)));
    assert_eq!(strided(32, "u32"), (32, Some(0.125)));
    assert_eq!(strided(8, "u32"), (8, Some(0.5)));
    assert_eq!(total("mov.u32 %r1, 0;").coalescing(), None);
}

#[test]
fn generic_addresses_count_where_they_lead() {
    let total = total(
        "mov.u32 %r1, tile;\ncvta.shared.u64 %rd1, tile;\nld.u32 %r2, [%rd1];\nst.u32 [%b], %r2;",
    );
    assert_eq!(total.bytes["shared"].read, 128);
    assert_eq!(total.bytes["global"].written, 128);
    assert_eq!((total.shared_requests, total.shared_passes), (1, 1));
}

#[test]
fn shared_memory_takes_the_passes_that_its_banks_need() {
    let strided = |stride: u32, access: &str| {
        let total =
            total(&format!("mov.u32 %r1, tile;\nmad.lo.u32 %r1, %me, {stride}, %r1;\n{access}"));
        (total.shared_passes, total.bank_conflicts)
    };
    assert_eq!(strided(4, "ld.shared.u32 %r2, [%r1];"), (1, 0));
    assert_eq!(strided(128, "st.shared.u32 [%r1], %r2;"), (32, 31));
    assert_eq!(strided(132, "st.shared.u32 [%r1], %r2;"), (1, 0));
    assert_eq!(strided(16, "ld.shared.v4.u32 {%r2, %r3, %r4, %r5}, [%r1];"), (4, 0));
    let rows = "ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%r2, %r3, %r4, %r5}, [%r1];";
    assert_eq!(strided(128, rows), (32, 28));
    assert_eq!(strided(144, rows), (4, 0));
    let pair = "stmatrix.sync.aligned.m8n8.x2.shared.b16 [%r1], {%r2, %r3};";
    assert_eq!(strided(64, pair), (8, 6), "two matrices, rows of every other 64 bytes");
}

#[test]
fn tensor_cores_multiply() {
    let total = total(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%f1, %f2, %f3, %f4}, \
         {%r1, %r2, %r3, %r4}, {%r5, %r6}, {%f1, %f2, %f3, %f4};",
    );
    assert_eq!(total.macs, 16 * 8 * 16);
    assert_eq!(total.classes["matrix"], 1);
}

#[test]
fn atomics_read_and_write() {
    let total = total("atom.global.add.u32 %r1, [%a], 1;\nred.shared.add.u32 [tile], 1;");
    assert_eq!((total.bytes["global"].read, total.bytes["global"].written), (128, 128));
    assert_eq!((total.bytes["shared"].read, total.bytes["shared"].written), (128, 128));
}

const WAIT: &str = "$w: mbarrier.try_wait.parity.shared::cta.b64 %p3, [bar], 0;\n@!%p3 bra $w;\n";

#[test]
fn a_bulk_copy_counts_its_bytes_and_a_wait_once() {
    let body = format!(
        "setp.ne.u32 %p1, %me, 0;\n@%p1 bra $wait;\nmbarrier.init.shared::cta.b64 [bar], 1;\n\
         mbarrier.arrive.expect_tx.shared::cta.b64 _, [bar], 256;\n\
         cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [tile], [%a], 256, [bar];\n\
         cp.async.bulk.global.shared::cta.bulk_group [%b], [tile], 64;\ncp.async.bulk.commit_group;\n\
         cp.async.bulk.wait_group 0;\n$wait: bar.warp.sync -1;\n{WAIT}"
    );
    let counts = counts(&body, 1, 32);
    let bulk = counts.total.bulk;
    assert_eq!((bulk.read, bulk.written, bulk.shared, bulk.sectors), (256, 64, 256, 10));
    assert_eq!(counts.total.retries, 0);
    assert_eq!(counts.total.classes["mbarrier"], 3);
}

#[test]
fn waits_in_vain_are_counted_apart() {
    let body = "@%p7 bra $skip;\nmbarrier.init.shared::cta.b64 [bar], 1;\n$skip: bar.warp.sync -1;\n\
                mbarrier.test_wait.parity.shared::cta.b64 %p3, [bar], 0;\n\
                mbarrier.test_wait.parity.shared::cta.b64 %p3, [bar], 1;";
    let body = format!("setp.ne.u32 %p7, %me, 0;\n{body}");
    let total = total(&body);
    assert_eq!((total.retries, total.classes["mbarrier"]), (1, 3));
}

#[test]
fn a_box_counts_what_lies_in_the_tensor_and_what_it_fills() {
    let text = format!(
        "{HEADER}.entry k(.param .align 64 .b8 map[128]) {{ .reg .b64 %m; .reg .pred %p<4>;\n\
         .reg .b32 %me; .shared .align 1024 .b8 tile[4096]; .shared .align 8 .b64 bar;\n\
         mov.b64 %m, map;\ncvta.param.u64 %m, %m;\nmov.u32 %me, %tid.x;\n\
         setp.ne.u32 %p1, %me, 0;\n@%p1 bra $wait;\nmbarrier.init.shared::cta.b64 [bar], 1;\n\
         fence.mbarrier_init.release.cluster;\nmbarrier.arrive.expect_tx.shared::cta.b64 _, [bar], 1024;\n\
         cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes \
         [tile], [%m, {{80, 17}}], [bar];\n$wait: bar.warp.sync -1;\n{WAIT}ret;\n}}\n"
    );
    for mode in [Asynchrony::Earliest, Asynchrony::Latest] {
        let gpu = Gpu::new(&text);
        let map = TensorMap {
            element: TensorType::U16,
            rank: 2,
            address: gpu.upload(&vec![0u16; 2080]),
            dims: [100, 20, 1, 1, 1],
            strides: [208, 0, 0, 0],
            box_dims: [64, 8, 1, 1, 1],
            element_strides: [1; 5],
            swizzle: Swizzle::None,
            fill_nan: false,
        };
        let params = map.encode().to_vec();
        let shape = Launch { params, asynchrony: Some(mode), ..launch(1, 32, &[]) };
        let total = gpu.launch("k", &shape).unwrap().counts.unwrap().total;
        // Twenty of the columns and three of the rows are there.
        assert_eq!((total.bulk.read, total.bulk.shared), (3 * 40, 1024));
    }
}

#[test]
fn the_same_launch_has_the_same_counts() {
    // The second warp answers the first through shared memory, which the first polls.
    let body = "setp.lt.u32 %p1, %me, 32;\n@%p1 bra $poll;\nst.volatile.shared.u32 [tile], 1;\n\
                bra $end;\n$poll: ld.volatile.shared.u32 %r1, [tile];\nsetp.eq.u32 %p2, %r1, 0;\n\
                @%p2 bra $poll;\n$end:";
    let first = counts(body, 3, 64);
    assert!(first.total.polls >= 3, "{first:?}");
    assert_eq!(counts(body, 3, 64), first);
}
