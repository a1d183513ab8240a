//! A pipelined product: one warp loads tiles with tensor copies, four multiply them.

mod support;

use std::fmt::Write as _;

use half::bf16;
use support::{Gpu, launch};
use vgpu::{Asynchrony, Launch, Swizzle, TensorMap, TensorType};

const K: usize = 512;

fn kernel() -> String {
    let sums: Vec<String> = (0..32).map(|i| format!("%d{i}")).collect();
    let sums = sums.join(", ");
    let mut text = String::from(
        ".version 8.7\n.target sm_90a\n.address_size 64\n\
         .entry k(.param .align 64 .b8 ma[128], .param .align 64 .b8 mb[128], .param .u64 pb) {\n\
         .shared .align 1024 .b8 tile[32768]; .shared .align 8 .b64 full[2]; .shared .align 8 .b64 empty[2];\n\
         .reg .b64 %b, %x, %ma, %mb, %da, %db; .reg .b32 %d<32>, %me, %r<16>; .reg .pred %p<4>;\n\
         ld.param.u64 %b, [pb];\nmov.u32 %me, %tid.x;\nsetp.ne.u32 %p1, %me, 0;\n@%p1 bra $made;\n\
         mbarrier.init.shared.b64 [full], 1;\nmbarrier.init.shared.b64 [full+8], 1;\n\
         mbarrier.init.shared.b64 [empty], 128;\nmbarrier.init.shared.b64 [empty+8], 128;\n\
         fence.mbarrier_init.release.cluster;\n$made: bar.sync 0;\nmov.u32 %r0, 0;\n\
         setp.lt.u32 %p1, %me, 128;\n@%p1 bra $multiply;\nsetp.ne.u32 %p1, %me, 128;\n@%p1 bra $end;\n\
         mov.b64 %ma, ma;\ncvta.param.u64 %ma, %ma;\nmov.b64 %mb, mb;\ncvta.param.u64 %mb, %mb;\n\
         $load: and.b32 %r1, %r0, 1;\nshr.u32 %r2, %r0, 1;\nand.b32 %r2, %r2, 1;\nxor.b32 %r2, %r2, 1;\n\
         mov.u32 %r3, empty;\nmad.lo.u32 %r3, %r1, 8, %r3;\n\
         $e: mbarrier.try_wait.parity.shared::cta.b64 %p2, [%r3], %r2;\n@!%p2 bra $e;\n\
         mov.u32 %r4, full;\nmad.lo.u32 %r4, %r1, 8, %r4;\n\
         mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r4], 16384;\n\
         mov.u32 %r5, tile;\nmad.lo.u32 %r5, %r1, 16384, %r5;\nadd.u32 %r6, %r5, 8192;\nshl.b32 %r7, %r0, 6;\nmov.u32 %r8, 0;\n\
         cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%r5], [%ma, {%r7, %r8}], [%r4];\n\
         cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%r6], [%mb, {%r7, %r8}], [%r4];\n\
         add.u32 %r0, %r0, 1;\nsetp.lt.u32 %p2, %r0, 8;\n@%p2 bra $load;\nbra $end;\n$multiply:\n",
    );
    for i in 0..32 {
        writeln!(text, "mov.b32 %d{i}, 0;").unwrap();
    }
    text.push_str(
        "$next: and.b32 %r1, %r0, 1;\nshr.u32 %r2, %r0, 1;\nand.b32 %r2, %r2, 1;\n\
         mov.u32 %r3, full;\nmad.lo.u32 %r3, %r1, 8, %r3;\n\
         $f: mbarrier.try_wait.parity.shared::cta.b64 %p2, [%r3], %r2;\n@!%p2 bra $f;\n\
         mov.u32 %r5, tile;\nmad.lo.u32 %r5, %r1, 16384, %r5;\nshr.u32 %r5, %r5, 4;\ncvt.u64.u32 %da, %r5;\n\
         or.b64 %da, %da, 0x4000004000010000;\nadd.u64 %db, %da, 512;\nwgmma.fence.sync.aligned;\n",
    );
    for _ in 0..4 {
        writeln!(
            text,
            "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 {{{sums}}}, %da, %db, 1, 1, 1, 0, 0;\n\
             add.u64 %da, %da, 2;\nadd.u64 %db, %db, 2;"
        )
        .unwrap();
    }
    text.push_str(
        "wgmma.commit_group.sync.aligned;\nwgmma.wait_group.sync.aligned 0;\n\
         mov.u32 %r4, empty;\nmad.lo.u32 %r4, %r1, 8, %r4;\nmbarrier.arrive.shared::cta.b64 _, [%r4];\n\
         add.u32 %r0, %r0, 1;\nsetp.lt.u32 %p2, %r0, 8;\n@%p2 bra $next;\n\
         mul.wide.u32 %x, %me, 128;\nadd.u64 %x, %b, %x;\n",
    );
    for i in 0..32 {
        writeln!(text, "st.global.u32 [%x+{}], %d{i};", 4 * i).unwrap();
    }
    text.push_str("$end: ret;\n}\n");
    text
}

#[test]
fn a_pipelined_product_is_right_in_every_mode() {
    let number = |i: usize, seed: usize| ((i * 13 + i / 7 + seed) % 9) as i32 - 4;
    let matrix = |seed| -> Vec<u8> {
        (0..64 * K).flat_map(|i| bf16::from_f32(number(i, seed) as f32).to_le_bytes()).collect()
    };
    let mut modes = vec![Asynchrony::Earliest, Asynchrony::Latest];
    modes.extend((0..20).map(Asynchrony::Random));
    for mode in modes {
        let gpu = Gpu::new(&kernel());
        let map = |address| TensorMap {
            element: TensorType::Bf16,
            rank: 2,
            address,
            dims: [K as u64, 64, 1, 1, 1],
            strides: [2 * K as u64, 0, 0, 0],
            box_dims: [64, 64, 1, 1, 1],
            element_strides: [1; 5],
            swizzle: Swizzle::Bytes128,
            fill_nan: false,
        };
        let (a, b) = (map(gpu.upload(&matrix(1))), map(gpu.upload(&matrix(5))));
        let out = gpu.upload(&[0f32; 64 * 64]);
        let params = [&a.encode()[..], &b.encode(), &out.to_le_bytes()].concat();
        let shape = Launch { params, asynchrony: Some(mode), ..launch(1, 160, &[]) };
        gpu.launch("k", &shape).unwrap_or_else(|error| panic!("{mode:?}: {error}"));
        let got = gpu.download::<f32>(out, 64 * 64);
        for (at, value) in got.iter().enumerate() {
            let (thread, i) = (at / 32, at % 32);
            let row = thread / 32 * 16 + thread % 32 / 4 + i / 2 % 2 * 8;
            let column = i / 4 * 8 + thread % 4 * 2 + i % 2;
            let term = |k| number(row * K + k, 1) * number(column * K + k, 5);
            let expected: i32 = (0..K).map(term).sum();
            assert_eq!(*value as i32, expected, "{mode:?} at ({row}, {column})");
        }
    }
}
