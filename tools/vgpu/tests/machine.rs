//! The machine: divergence, barriers, warps, memory spaces, calls; what it prints.

mod support;

use support::machine::{HEADER, kernel, store, words};
use support::{Gpu, launch};
use vgpu::Launch;

#[test]
fn threads_of_a_warp_take_different_ways_and_meet_again() {
    // Even threads multiply, odd ones loop tid times; all then vote together.
    let body = format!(
        "and.b32 %r1, %me, 1;\nsetp.eq.u32 %p1, %r1, 0;\nmov.u32 %r2, 0;\n@%p1 bra $even;\n\
         mov.u32 %r3, %me;\n$loop: add.u32 %r2, %r2, 3;\nsub.u32 %r3, %r3, 1;\n\
         setp.ne.u32 %p2, %r3, 0;\n@%p2 bra $loop;\nbra $join;\n\
         $even: mul.lo.u32 %r2, %me, 100;\n\
         $join: vote.sync.ballot.b32 %r4, %p1, 0xffffffff;\nxor.b32 %r2, %r2, %r4;\n{}",
        store("%r2")
    );
    let expected: Vec<u32> = (0..32)
        .map(|tid: u32| if tid.is_multiple_of(2) { tid * 100 } else { tid * 3 } ^ 0x5555_5555)
        .collect();
    assert_eq!(words(&body, 32, &[0]), expected);
}

#[test]
fn a_thread_that_holds_a_lock_gets_its_turn() {
    // Every thread of the warp takes the same lock in turn: without fairness this never ends.
    let body = "mov.u32 %r5, 0;\n\
         $again: atom.global.cas.b32 %r1, [%a], 0, 1;\nsetp.ne.u32 %p1, %r1, 0;\n@%p1 bra $again;\n\
         membar.gl;\nld.global.u32 %r2, [%b];\nadd.u32 %r2, %r2, %me;\nst.global.u32 [%b], %r2;\nmembar.gl;\n\
         atom.global.exch.b32 %r3, [%a], 0;";
    assert_eq!(words(body, 32, &[0])[0], (0..32).sum::<u32>());
}

#[test]
fn shuffles_move_values_within_segments() {
    // Mode, source operand, clamp operand, where thread i's value comes from.
    type From = fn(u32) -> u32;
    let cases: [(&str, &str, &str, From); 7] = [
        ("up", "1", "0", |i| i.saturating_sub(1)),
        ("up", "2", "0x1800", |i| if i % 8 < 2 { i } else { i - 2 }),
        ("down", "3", "31", |i| if i + 3 > 31 { i } else { i + 3 }),
        ("bfly", "5", "31", |i| i ^ 5),
        ("idx", "7", "31", |_| 7),
        ("idx", "2", "0x1807", |i| i / 8 * 8 + 2),
        ("bfly", "16", "0x100f", |i| if i < 16 { i } else { i ^ 16 }),
    ];
    for (mode, source, clamp, from) in cases {
        let body = format!(
            "mul.lo.u32 %r1, %me, 11;\nshfl.sync.{mode}.b32 %r2|%p1, %r1, {source}, {clamp}, -1;\n{}",
            store("%r2")
        );
        let expected: Vec<u32> = (0..32).map(|i| from(i) * 11).collect();
        assert_eq!(words(&body, 32, &[0]), expected, "{mode} {source} {clamp}");
    }
}

#[test]
fn votes_matches_and_reductions_see_their_members_only() {
    // Threads 0 to 15 and 16 to 31 are two groups.
    let group = "setp.lt.u32 %p1, %me, 16;\nselp.b32 %r1, 0x0000ffff, 0xffff0000, %p1;\n";
    let case = |text: &str, expected: fn(u32) -> u32| {
        let body = format!("{group}{text}\n{}", store("%r2"));
        let expected: Vec<u32> = (0..32).map(expected).collect();
        assert_eq!(words(&body, 32, &[0]), expected, "{text}");
    };
    let odd = "and.b32 %r3, %me, 1;\nsetp.ne.u32 %p2, %r3, 0;\n";
    case(&format!("{odd}vote.sync.ballot.b32 %r2, %p2, %r1;"), |i| {
        if i < 16 { 0xaaaa } else { 0xaaaa_0000 }
    });
    case(
        "setp.lt.u32 %p2, %me, 20;\nvote.sync.all.pred %p3, %p2, %r1;\nselp.b32 %r2, 1, 0, %p3;",
        |i| u32::from(i < 16),
    );
    case(
        "setp.gt.u32 %p2, %me, 20;\nvote.sync.any.pred %p3, %p2, %r1;\nselp.b32 %r2, 1, 0, %p3;",
        |i| u32::from(i >= 16),
    );
    case(
        "setp.gt.u32 %p2, %me, 15;\nvote.sync.uni.pred %p3, %p2, %r1;\nselp.b32 %r2, 1, 0, %p3;",
        |_| 1,
    );
    case("redux.sync.add.u32 %r2, %me, %r1;", |i| if i < 16 { 120 } else { 376 });
    case("sub.s32 %r4, 3, %me;\nredux.sync.min.s32 %r2, %r4, %r1;", |i| {
        if i < 16 { -12i32 as u32 } else { -28i32 as u32 }
    });
    case("redux.sync.or.b32 %r2, %me, %r1;", |i| if i < 16 { 15 } else { 31 });
    case("shr.u32 %r4, %me, 2;\nmatch.any.sync.b32 %r2, %r4, %r1;", |i| 0xf << (i / 4 * 4));
    case("shr.u32 %r4, %me, 5;\nmatch.all.sync.b32 %r2|%p4, %r4, %r1;", |i| {
        if i < 16 { 0xffff } else { 0xffff_0000 }
    });
    case("match.all.sync.b32 %r2|%p4, %me, %r1;\nselp.b32 %r2, 9, %r2, %p4;", |_| 0);
    case("elect.sync %r2|%p4, %r1;\nselp.b32 %r2, 100, %r2, %p4;", |i| match i {
        0 | 16 => 100,
        1..16 => 0,
        _ => 16,
    });
    case("@%p1 bra $low;\nactivemask.b32 %r2;\nbra $end;\n$low: activemask.b32 %r2;\n$end:", |i| {
        if i < 16 { 0xffff } else { 0xffff_0000 }
    });
}

#[test]
fn barriers_order_the_warps_of_a_block() {
    // Thread i writes slot i of shared memory, then reads the slot of the thread opposite.
    let body = format!(
        ".shared .align 4 .b8 slots[1024];\nmov.u32 %r1, slots;\nshl.b32 %r2, %me, 2;\n\
         add.u32 %r3, %r1, %r2;\nmul.lo.u32 %r4, %me, 7;\nst.shared.u32 [%r3], %r4;\n\
         bar.sync 0;\nsub.u32 %r5, 255, %me;\nshl.b32 %r5, %r5, 2;\nadd.u32 %r5, %r1, %r5;\n\
         ld.shared.u32 %r6, [%r5];\n{}",
        store("%r6")
    );
    let expected: Vec<u32> = (0..256).map(|i| (255 - i) * 7).collect();
    assert_eq!(words(&body, 256, &[0]), expected);
}

#[test]
fn named_barriers_count_arrivals_of_other_warps() {
    // Warp 0 waits at barrier 1 for 64 threads; warp 1 arrives after it wrote and does not wait.
    let body = format!(
        ".shared .u32 value;\nmov.u32 %r6, 1;\nsetp.lt.u32 %p1, %me, 32;\n@%p1 bra $reader;\n\
         setp.ne.u32 %p2, %me, 32;\n@!%p2 st.shared.u32 [value], 77;\nbar.arrive 1, 64;\nbra $end;\n\
         $reader: bar.sync 1, 64;\nld.shared.u32 %r6, [value];\n$end:\n{}",
        store("%r6")
    );
    let expected: Vec<u32> = (0..64).map(|i| if i < 32 { 77 } else { 1 }).collect();
    assert_eq!(words(&body, 64, &[0]), expected);
}

#[test]
fn barrier_reductions_give_every_thread_the_result() {
    let body = |op: &str, ty: &str| {
        let (dest, after) = match ty {
            "pred" => ("%p2", "selp.b32 %r2, 1, 0, %p2;"),
            _ => ("%r2", ""),
        };
        format!(
            "setp.lt.u32 %p1, %me, 40;\nbar.red.{op}.{ty} {dest}, 0, %p1;\n{after}\n{}",
            store("%r2")
        )
    };
    assert_eq!(words(&body("popc", "u32"), 96, &[0]), vec![40; 96]);
    assert_eq!(words(&body("and", "pred"), 96, &[0]), vec![0; 96]);
    assert_eq!(words(&body("or", "pred"), 96, &[0]), vec![1; 96]);
}

#[test]
fn threads_that_ended_are_not_waited_for() {
    let body = format!(
        "setp.ge.u32 %p1, %me, 40;\n@%p1 exit;\nbar.warp.sync 0xffffffff;\nbar.sync 0;\n\
         mov.u32 %r1, 5;\n{}",
        store("%r1")
    );
    let got = words(&body, 96, &[0]);
    assert_eq!(got[..40], [5; 40]);
    assert_eq!(got[40..], [0; 56]);
}

#[test]
fn the_cluster_barrier_orders_the_shared_memory_of_blocks() {
    let text = format!(
        "{HEADER}.entry k(.param .u64 pa) .reqnctapercluster 2, 1, 1 {{\n\
         .shared .u32 value; .reg .b64 %a, %o; .reg .b32 %r<8>;\nld.param.u64 %a, [pa];\n\
         mov.u32 %r1, %cluster_ctarank;\nadd.u32 %r2, %r1, 10;\nst.shared.u32 [value], %r2;\n\
         barrier.cluster.arrive.aligned;\nbarrier.cluster.wait.aligned;\n\
         xor.b32 %r3, %r1, 1;\nmov.u32 %r4, value;\nmapa.shared::cluster.u32 %r5, %r4, %r3;\n\
         ld.shared::cluster.u32 %r6, [%r5];\nmov.u32 %r7, %ctaid.x;\nmul.wide.u32 %o, %r7, 4;\n\
         add.u64 %o, %a, %o;\nst.global.u32 [%o], %r6;\n\
         barrier.cluster.arrive.aligned;\nbarrier.cluster.wait.aligned;\nret;\n}}"
    );
    let gpu = Gpu::new(&text);
    let out = gpu.upload(&[0u32; 4]);
    gpu.run("k", 4, 32, &[out]);
    assert_eq!(gpu.download::<u32>(out, 4), [11, 10, 11, 10]);
}

#[test]
fn generic_addresses_reach_every_space() {
    let body = format!(
        ".shared .align 8 .b8 s[64]; .local .align 8 .b8 l[64];\n\
         mov.u64 %rd1, s;\ncvta.shared.u64 %rd1, %rd1;\nst.u32 [%rd1+4], 11;\nld.shared.u32 %r1, [s+4];\n\
         mov.u64 %rd2, l;\ncvta.local.u64 %rd2, %rd2;\nst.u32 [%rd2+8], %me;\nld.local.u32 %r2, [l+8];\n\
         mov.u64 %rd3, pb;\ncvta.param.u64 %rd3, %rd3;\nld.u64 %rd4, [%rd3];\n\
         setp.eq.u64 %p1, %rd4, %b;\nselp.b32 %r3, 1000, 0, %p1;\n\
         isspacep.shared %p2, %rd1;\nselp.b32 %r4, 10000, 0, %p2;\n\
         isspacep.local %p3, %rd1;\nselp.b32 %r5, 1, 100000, %p3;\n\
         isspacep.global %p4, %b;\nselp.b32 %r6, 1000000, 0, %p4;\n\
         cvta.to.shared.u64 %rd5, %rd1;\nmov.u64 %rd6, s;\nsetp.eq.u64 %p5, %rd5, %rd6;\n\
         selp.b32 %r7, 10000000, 0, %p5;\n\
         add.u32 %r1, %r1, %r2;\nadd.u32 %r1, %r1, %r3;\nadd.u32 %r1, %r1, %r4;\n\
         add.u32 %r1, %r1, %r5;\nadd.u32 %r1, %r1, %r6;\nadd.u32 %r1, %r1, %r7;\n{}",
        store("%r1")
    );
    let expected: Vec<u32> = (0..32).map(|tid| 11_111_011 + tid).collect();
    assert_eq!(words(&body, 32, &[0]), expected);
}

#[test]
fn loads_and_stores_have_all_widths_and_signs() {
    let text = kernel(
        "ld.global.u8 %r1, [%a];\nst.global.u32 [%b], %r1;\n\
         ld.global.s8 %r1, [%a];\nst.global.u32 [%b+4], %r1;\n\
         ld.global.s16 %r1, [%a];\nst.global.u32 [%b+8], %r1;\n\
         ld.global.s32 %rd1, [%a+4];\nst.global.u64 [%b+16], %rd1;\n\
         ld.global.v4.u32 {%r1, %r2, _, %r4}, [%a+16];\nst.global.v2.u32 [%b+24], {%r4, %r1};\n\
         ld.global.v2.u64 {%rd1, %rd2}, [%a+16];\nst.global.v2.b64 [%b+32], {%rd2, %rd1};\n\
         .reg .b128 %q;\nld.global.b128 %q, [%a+16];\nst.global.b128 [%b+48], %q;\n\
         mov.b128 {%rd3, %rd4}, %q;\nst.global.u64 [%b+64], %rd4;\n\
         st.global.u8 [%b+72], %rd4;\nld.global.b16 %r5, [%a+2];\nst.global.u16 [%b+74], %r5;",
    );
    let gpu = Gpu::new(&text);
    let a = gpu.upload(&[0x8182_8384u32, 0x8000_0001, 0, 0, 1, 2, 3, 4]);
    let b = gpu.upload(&[0u32; 20]);
    gpu.run("k", 1, 1, &[a, b]);
    let expected = [
        0x84,
        0xffff_ff84,
        0xffff_8384,
        0,
        0x8000_0001,
        0xffff_ffff,
        4,
        1,
        3,
        4,
        1,
        2,
        1,
        2,
        3,
        4,
        3,
        4,
        0x8182_0003,
        0,
    ];
    assert_eq!(gpu.download::<u32>(b, 20), expected);
}

#[test]
fn atomics_return_the_old_value_and_leave_the_new() {
    // Operation, memory before, operand(s), memory after one thread.
    let cases: [(&str, u64, &str, u64); 22] = [
        ("add.u32", 5, "7", 12),
        ("add.u64", u64::MAX, "2", 1),
        ("min.s32", 5, "-1", 0xffff_ffff),
        ("min.u32", 5, "-1", 5),
        ("max.s32", 5, "-1", 5),
        ("max.u64", 5, "9", 9),
        ("min.s64", 5, "-9", -9i64 as u64),
        ("and.b32", 0b1100, "10", 0b1000),
        ("or.b32", 0b1100, "3", 0b1111),
        ("xor.b64", 0b1100, "6", 0b1010),
        ("exch.b32", 5, "8", 8),
        ("cas.b32", 5, "5, 6", 6),
        ("cas.b32", 5, "4, 6", 5),
        ("cas.b64", 1 << 40, "1099511627776, 3", 3),
        ("inc.u32", 5, "7", 6),
        ("inc.u32", 7, "7", 0),
        ("dec.u32", 0, "7", 7),
        ("dec.u32", 3, "7", 2),
        ("add.f32", 0x3f80_0000, "0f40000000", 0x4040_0000),
        ("add.noftz.f16x2", 0x3c00_3c00, "0x40003c00", 0x4200_4000),
        ("add.noftz.bf16x2", 0x3f80_3f80, "0x40003f80", 0x4040_4000),
        ("add.f64", 0x3ff0_0000_0000_0000, "0d4000000000000000", 0x4008_0000_0000_0000),
    ];
    for (op, before, operand, after) in cases {
        let wide = op.ends_with("64");
        let (ty, reg) = if wide { ("u64", "%rd1") } else { ("u32", "%r1") };
        let text = kernel(&format!(
            "atom.global.{op} {reg}, [%a], {operand};\nst.global.{ty} [%b], {reg};\n\
             red.relaxed.gpu.global.add.u32 [%b+8], 1;"
        ));
        let gpu = Gpu::new(&text);
        let (a, b) = (gpu.upload(&[before]), gpu.upload(&[0u64; 2]));
        gpu.run("k", 1, 1, &[a, b]);
        assert_eq!(gpu.download::<u64>(b, 2), [before, 1], "{op} returns the old value");
        assert_eq!(gpu.download::<u64>(a, 1), [after], "{op} {operand}");
    }
}

#[test]
fn vector_atomics_add_each_element() {
    let text = kernel(
        "mov.f32 %f1, 0f3F800000;\nmov.f32 %f2, 0f40000000;\n\
         atom.global.add.v2.f32 {%f3, %f4}, [%a], {%f1, %f2};\nst.global.v2.f32 [%b], {%f3, %f4};",
    );
    let gpu = Gpu::new(&text);
    let (a, b) = (gpu.upload(&[1.0f32, 10.0]), gpu.upload(&[0f32; 2]));
    gpu.run("k", 1, 1, &[a, b]);
    assert_eq!(gpu.download::<f32>(a, 2), [2.0, 12.0]);
    assert_eq!(gpu.download::<f32>(b, 2), [1.0, 10.0]);
}

#[test]
fn special_registers_describe_the_launch() {
    let text = format!(
        "{HEADER}.entry k(.param .u64 out) {{ .reg .b64 %o, %x; .reg .b32 %r<12>; .reg .pred %p;\n\
         ld.param.u64 %o, [out];\nmov.u32 %r1, %tid.x;\nmov.u32 %r2, %tid.y;\nmov.u32 %r3, %ntid.x;\n\
         mad.lo.u32 %r4, %r2, %r3, %r1;\nsetp.ne.u32 %p, %r4, 37;\n@%p exit;\n\
         mov.u32 %r5, %ctaid.y;\nsetp.ne.u32 %p, %r5, 1;\n@%p exit;\nmov.u32 %r5, %ctaid.x;\n\
         setp.ne.u32 %p, %r5, 2;\n@%p exit;\n\
         st.global.v4.u32 [%o], {{%r1, %r2, %r3, %r4}};\nmov.u32 %r1, %laneid;\nmov.u32 %r2, %warpid;\n\
         mov.u32 %r3, %lanemask_lt;\nmov.u32 %r4, %nctaid.x;\nst.global.v4.u32 [%o+16], {{%r1, %r2, %r3, %r4}};\n\
         mov.u32 %r1, %ntid.y;\nmov.u32 %r2, WARP_SZ;\nmov.u32 %r3, %dynamic_smem_size;\n\
         mov.u32 %r4, %nctaid.y;\nst.global.v4.u32 [%o+32], {{%r1, %r2, %r3, %r4}};\nret; }}"
    );
    let gpu = Gpu::new(&text);
    let out = gpu.upload(&[0u32; 12]);
    let shape = Launch {
        grid: [3, 2, 1],
        block: [10, 8, 1],
        dynamic_shared_bytes: 64,
        ..launch(1, 1, &[out])
    };
    gpu.launch("k", &shape).unwrap();
    let expected = [7, 3, 10, 37, 5, 1, 31, 3, 8, 32, 64, 2];
    assert_eq!(gpu.download::<u32>(out, 12), expected);
}

#[test]
fn a_named_cluster_shows() {
    let body =
        format!("mov.pred %p1, %is_explicit_cluster;\nselp.b32 %r1, 3, 4, %p1;\n{}", store("%r1"));
    assert_eq!(words(&body, 1, &[0]), [4]);
    let gpu = Gpu::new(&kernel(&body));
    let (a, b) = (gpu.upload(&[0u32]), gpu.upload(&[0u32; 2]));
    gpu.launch("k", &Launch { cluster: [2, 1, 1], ..launch(2, 1, &[a, b]) }).unwrap();
    assert_eq!(gpu.download::<u32>(b, 1), [3]);
}

#[test]
fn clocks_only_go_forward() {
    let body = "mov.u64 %rd1, %clock64;\nmov.u64 %rd2, %globaltimer;\nnanosleep.u32 1000;\n\
         mov.u64 %rd3, %clock64;\nmov.u64 %rd4, %globaltimer;\nsetp.gt.u64 %p1, %rd3, %rd1;\n\
         sub.u64 %rd5, %rd4, %rd2;\nsetp.ge.and.u64 %p1, %rd5, 1000, %p1;\nselp.b32 %r1, 1, 0, %p1;\n";
    assert_eq!(words(&format!("{body}{}", store("%r1")), 1, &[0]), [1]);
}

#[test]
fn calls_pass_parameters_both_ways() {
    let text = format!(
        "{HEADER}.func (.param .b32 out) twice(.param .b32 in) {{ .reg .b32 %r<3>; .reg .pred %p;\n\
         ld.param.u32 %r1, [in];\nsetp.gt.u32 %p, %r1, 100;\n@%p bra $big;\nadd.u32 %r2, %r1, %r1;\n\
         st.param.b32 [out], %r2;\nret;\n$big: st.param.b32 [out], 7;\nret; }}\n\
         .func (.reg .b32 out) plus(.reg .b32 a, .reg .b32 b) {{ add.u32 out, a, b; ret; }}\n\
         .entry k(.param .u64 pa, .param .u64 pb) {{ .reg .b32 %r<8>; .reg .b64 %b, %x; .reg .pred %q;\n\
         ld.param.u64 %b, [pb];\nmov.u32 %r1, %tid.x;\nmul.lo.u32 %r2, %r1, 10;\n\
         {{ .param .b32 p0; .param .b32 r0;\nst.param.b32 [p0], %r2;\ncall.uni (r0), twice, (p0);\n\
         ld.param.b32 %r3, [r0]; }}\n\
         setp.lt.u32 %q, %r1, 20;\n@%q call (%r3), plus, (%r3, 1000);\n\
         mul.wide.u32 %x, %r1, 4;\nadd.u64 %x, %b, %x;\nst.global.u32 [%x], %r3;\nret; }}"
    );
    let gpu = Gpu::new(&text);
    let b = gpu.upload(&[0u32; 32]);
    gpu.run("k", 1, 32, &[0, b]);
    let expected: Vec<u32> = (0..32u32)
        .map(|i| (if i * 10 > 100 { 7 } else { i * 20 }) + if i < 20 { 1000 } else { 0 })
        .collect();
    assert_eq!(gpu.download::<u32>(b, 32), expected);
}

#[test]
fn module_variables_have_values_and_addresses() {
    let text = format!(
        "{HEADER}.global .u32 counts[4] = {{1, 2, 3}};\n.const .f32 half = 0f3F000000;\n\
         .global .u64 pointers[2] = {{generic(counts)+8, counts}};\n\
         .entry k(.param .u64 pa, .param .u64 pb) {{ .reg .b64 %b, %x; .reg .b32 %r<4>;\n\
         ld.param.u64 %b, [pb];\nld.global.u64 %x, [pointers];\nld.global.u32 %r1, [%x];\n\
         ld.global.u64 %x, [pointers+8];\nld.global.u32 %r2, [%x+4];\nld.const.b32 %r3, [half];\n\
         st.global.u32 [%b], %r1;\nst.global.u32 [%b+4], %r2;\nst.global.u32 [%b+8], %r3;\n\
         st.global.u32 [counts], 9;\nret; }}"
    );
    let gpu = Gpu::new(&text);
    let b = gpu.upload(&[0u32; 3]);
    gpu.run("k", 1, 1, &[0, b]);
    assert_eq!(gpu.download::<u32>(b, 3), [3, 2, 0x3f00_0000]);
    let (address, bytes) = gpu.image.global("counts").unwrap();
    assert_eq!(bytes, 16);
    assert_eq!(gpu.download::<u32>(address, 4), [9, 2, 3, 0]);
}
