//! Matrix instructions of a single warp.

mod support;

use std::fmt::Write as _;

use support::wgmma::{encode, meaning, value};
use support::{Gpu, launch};
use vgpu::{Accumulation, Asynchrony, Launch};

const HEADER: &str = ".version 8.7\n.target sm_90a\n.address_size 64\n";

/// Runs a warp that loads words `a` of `inputs` each, executes `body` and stores `%d`s.
fn warp(inputs: &[u32], a: usize, d: usize, body: &str, accumulation: Accumulation) -> Vec<u32> {
    let mut text = format!(
        "{HEADER}.entry k(.param .u64 pa, .param .u64 pb) {{\n.shared .align 128 .b8 tile[1024];\n\
         .reg .b64 %a, %b, %x; .reg .b32 %s<{a}>, %d<{d}>, %me, %r<8>;\n\
         ld.param.u64 %a, [pa];\nld.param.u64 %b, [pb];\nmov.u32 %me, %tid.x;\n\
         mul.wide.u32 %x, %me, {};\nadd.u64 %x, %a, %x;\n",
        4 * a
    );
    for i in 0..a {
        writeln!(text, "ld.global.u32 %s{i}, [%x+{}];", 4 * i).unwrap();
    }
    writeln!(text, "{body}\nmul.wide.u32 %x, %me, {};\nadd.u64 %x, %b, %x;", 4 * d).unwrap();
    for i in 0..d {
        writeln!(text, "st.global.u32 [%x+{}], %d{i};", 4 * i).unwrap();
    }
    text.push_str("ret;\n}\n");
    let gpu = Gpu::new(&text);
    let (input, output) = (gpu.upload(inputs), gpu.upload(&vec![0u32; 32 * d]));
    let asynchrony = Some(Asynchrony::Earliest);
    let shape =
        Launch { accumulation: Some(accumulation), asynchrony, ..launch(1, 32, &[input, output]) };
    gpu.launch("k", &shape).unwrap_or_else(|error| panic!("{error}"));
    gpu.download(output, 32 * d)
}

#[test]
fn mma_multiplies_fragments() {
    for (k, ty, sum) in [
        (16, "f16", "f32"),
        (8, "f16", "f32"),
        (16, "bf16", "f32"),
        (8, "bf16", "f32"),
        (8, "tf32", "f32"),
        (4, "tf32", "f32"),
        (32, "e4m3", "f32"),
        (32, "e5m2", "f32"),
        (32, "s8", "s32"),
        (16, "u8", "s32"),
    ] {
        let width = encode(ty, 0).len();
        let depth = k * width;
        let bytes = |rows: usize, seed| -> Vec<u8> {
            (0..rows * k).flat_map(|i| encode(ty, value(i, seed))).collect()
        };
        let (a, b) = (bytes(16, 1), bytes(8, 2));
        let word = |from: &[u8], row: usize, at: usize| {
            u32::from_le_bytes(from[row * depth + at..][..4].try_into().unwrap())
        };
        let three = if sum == "f32" { 3f32.to_bits() } else { 3 };
        let mut inputs = Vec::new();
        for lane in 0..32 {
            for r in 0..depth / 8 {
                inputs.push(word(&a, lane / 4 + r % 2 * 8, lane % 4 * 4 + r / 2 * 16));
            }
            for r in 0..depth / 16 {
                inputs.push(word(&b, lane / 4, lane % 4 * 4 + r * 16));
            }
            inputs.push(three);
        }
        let (na, nb) = (depth / 8, depth / 16);
        let names = |from: usize, n: usize| {
            (from..from + n).map(|i| format!("%s{i}")).collect::<Vec<_>>().join(", ")
        };
        let c = names(na + nb, 1);
        let body = format!(
            "mma.sync.aligned.m16n8k{k}.row.col.{sum}.{ty}.{ty}.{sum} {{%d0, %d1, %d2, %d3}}, {{{}}}, {{{}}}, {{{c}, {c}, {c}, {c}}};",
            names(0, na),
            names(na, nb)
        );
        let got = warp(&inputs, na + nb + 1, 4, &body, Accumulation::Fp32);
        for (at, bits) in got.iter().enumerate() {
            let (lane, i) = (at / 4, at % 4);
            let (row, column) = (lane / 4 + i / 2 * 8, lane % 4 * 2 + i % 2);
            let term =
                |j| meaning(ty, value(row * k + j, 1)) * meaning(ty, value(column * k + j, 2));
            let expected = 3 + (0..k).map(term).sum::<i32>();
            let value = if sum == "f32" { f32::from_bits(*bits) as i32 } else { *bits as i32 };
            assert_eq!(value, expected, "{ty} k{k} at ({row}, {column})");
        }
    }
}

#[test]
fn bf16_sums_can_be_those_of_hopper() {
    // 16 products of 2^-24 beside a sum of 1. One after the other, each is lost; Hopper keeps them.
    let inputs = vec![0x3980_3980u32; 32];
    let body = "mov.b32 %r0, 0f3F800000;\n\
        mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%d0, %d1, %d2, %d3}, {%s0, %s0, %s0, %s0}, {%s0, %s0}, {%r0, %r0, %r0, %r0};";
    assert_eq!(warp(&inputs, 1, 4, body, Accumulation::Fp32), vec![1f32.to_bits(); 128]);
    let kept = vec![(1.0 + 2f32.powi(-20)).to_bits(); 128];
    assert_eq!(warp(&inputs, 1, 4, body, Accumulation::Hopper), kept);
}

#[test]
fn matrices_are_loaded_and_stored_in_both_orders() {
    // Four matrices of 8 rows of 16 bytes in shared memory; element e of the tile holds e.
    let fill = "mov.u32 %r0, tile;\nshl.b32 %r1, %me, 4;\nadd.u32 %r2, %r0, %r1;\nshl.b32 %r3, %me, 3;\n\
        mad.lo.u32 %r3, %r3, 0x10001, 0x10000;\nadd.u32 %r4, %r3, 0x20002;\nadd.u32 %r5, %r3, 0x40004;\n\
        add.u32 %r6, %r3, 0x60006;\nst.shared.v4.u32 [%r2], {%r3, %r4, %r5, %r6};\nbar.warp.sync -1;\n";
    let element = |matrix: u32, row: u32, column: u32| matrix * 64 + row * 8 + column;
    for (trans, transposed) in [("", false), (".trans", true)] {
        let body = format!(
            "{fill}ldmatrix.sync.aligned.m8n8.x4{trans}.shared.b16 {{%d0, %d1, %d2, %d3}}, [%r2];"
        );
        let got = warp(&[0; 32], 1, 4, &body, Accumulation::Fp32);
        for (at, word) in got.iter().enumerate() {
            let (lane, matrix) = (at as u32 / 4, at as u32 % 4);
            let (row, column) = (lane / 4, lane % 4 * 2);
            let pair = match transposed {
                false => [element(matrix, row, column), element(matrix, row, column + 1)],
                true => [element(matrix, column, row), element(matrix, column + 1, row)],
            };
            assert_eq!(*word, pair[0] | (pair[1] << 16), "{trans} thread {lane}");
        }
        // Storing what was loaded, both the same way, gives the tile back.
        let body = format!(
            "{body}\nbar.warp.sync -1;\nmov.u32 %r7, 0;\nst.shared.v4.u32 [%r2], {{%r7, %r7, %r7, %r7}};\n\
             bar.warp.sync -1;\n\
             stmatrix.sync.aligned.m8n8.x2{trans}.shared.b16 [%r2], {{%d0, %d1}};\nbar.warp.sync -1;\n\
             ld.shared.v4.u32 {{%d0, %d1, %d2, %d3}}, [%r2];"
        );
        let got = warp(&[0; 32], 1, 4, &body, Accumulation::Fp32);
        let expected: Vec<u32> =
            (0..128).map(|i| if i < 64 { (2 * i) | ((2 * i + 1) << 16) } else { 0 }).collect();
        assert_eq!(got, expected, "{trans}");
    }
}
