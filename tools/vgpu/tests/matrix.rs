//! Tensor-core instructions, against sums of small integers that are exact in every type.

mod support;

use std::fmt::Write as _;

use half::{bf16, f16};
use support::{Gpu, launch};
use vgpu::{Asynchrony, Checks, FaultKind, Launch, LaunchError};

const HEADER: &str = ".version 8.7\n.target sm_90a\n.address_size 64\n";

/// Value `i` of a factor: -2 to 2, or 0 to 4 if unsigned.
fn value(i: usize, seed: usize) -> i32 {
    ((i * 7 + i / 5 * 3 + seed) % 5) as i32 - 2
}

/// Bytes of a small integer in a type.
fn encode(ty: &str, x: i32) -> Vec<u8> {
    match ty {
        "f16" => f16::from_f32(x as f32).to_le_bytes().to_vec(),
        "bf16" => bf16::from_f32(x as f32).to_le_bytes().to_vec(),
        // The low bits are ignored.
        "tf32" => ((x as f32).to_bits() | 0xfff).to_le_bytes().to_vec(),
        "s8" => vec![x as i8 as u8],
        "u8" => vec![(x + 2) as u8],
        _ => {
            let one = if ty == "e4m3" { 0x38 } else { 0x3c };
            let magnitude = [0, one, 0x40][x.unsigned_abs() as usize];
            vec![magnitude | if x < 0 { 0x80 } else { 0 }]
        }
    }
}

/// The number that a type holds for `value`.
fn meaning(ty: &str, x: i32) -> i32 {
    if ty == "u8" { x + 2 } else { x }
}

/// A factor in shared memory: its bytes and the descriptor without its address.
fn factor(rows: usize, ty: &str, seed: usize, span: usize, transposed: bool) -> (Vec<u8>, u64) {
    let mut image = vec![0; 32768];
    let width = encode(ty, 0).len();
    let depth = 32 / width;
    let (leading, stride) = match (span, transposed) {
        (0, _) => (128, 256),
        (_, false) => (16, 8 * span),
        (_, true) => (16 * span, 8 * span),
    };
    for row in 0..rows {
        for k in 0..depth {
            let (byte, wide) = (k * width, span / 2);
            let at = match (span, transposed) {
                (0, false) => row % 8 * 16 + row / 8 * stride + byte / 16 * leading + byte % 16,
                (_, false) => row * span + byte,
                (0, true) => row % 8 * 2 + row / 8 * stride + k % 8 * 16 + k / 8 * leading,
                (_, true) => row % wide * 2 + row / wide * leading + k % 8 * span + k / 8 * stride,
            };
            let (line, chunk) = (at / 128, at / 16 % 8);
            let mask = if span == 0 { 0 } else { span / 16 - 1 };
            let at = line * 128 + (chunk ^ (line & mask)) * 16 + at % 16;
            image[at..at + width].copy_from_slice(&encode(ty, value(row * depth + k, seed)));
        }
    }
    let mode = match span {
        0 => 0u64,
        128 => 1,
        64 => 2,
        _ => 3,
    };
    (image, mode << 62 | (leading as u64 / 16) << 16 | (stride as u64 / 16) << 32)
}

#[derive(Clone, Copy, Debug)]
struct Case {
    n: usize,
    sum: &'static str,
    a: &'static str,
    b: &'static str,
    span: usize,
    transposed: [bool; 2],
    a_in_registers: bool,
    negate: [bool; 2],
    /// The sum starts from the registers, which hold 3.
    adds: bool,
}

const CASE: Case = Case {
    n: 64,
    sum: "f32",
    a: "bf16",
    b: "bf16",
    span: 128,
    transposed: [false; 2],
    a_in_registers: false,
    negate: [false; 2],
    adds: true,
};

impl Case {
    fn depth(&self) -> usize {
        32 / encode(self.a, 0).len()
    }

    fn registers(&self) -> usize {
        self.n / if self.sum == "f16" { 4 } else { 2 }
    }

    fn kernel(&self, descriptors: [u64; 2], after: &str) -> String {
        let count = self.registers();
        let three = match self.sum {
            "f32" => 0x4040_0000u32,
            "f16" => 0x4200_4200,
            _ => 3,
        };
        let mut text = format!(
            "{HEADER}.entry k(.param .u64 pa, .param .u64 pb) {{\n\
             .shared .align 1024 .b8 tile[65536];\n.reg .b64 %a, %b, %x, %da, %db; .reg .pred %p<3>;\n\
             .reg .b32 %d<{count}>, %f<4>, %tid, %r<8>;\n\
             ld.param.u64 %a, [pa];\nld.param.u64 %b, [pb];\nmov.u32 %tid, %tid.x;\n\
             mov.u32 %r0, tile;\nshl.b32 %r1, %tid, 2;\n\
             $copy: cvt.u64.u32 %x, %r1;\nadd.u64 %x, %a, %x;\nld.global.u32 %r2, [%x];\n\
             add.u32 %r3, %r0, %r1;\nst.shared.u32 [%r3], %r2;\nadd.u32 %r1, %r1, 512;\n\
             setp.lt.u32 %p1, %r1, 65536;\n@%p1 bra $copy;\nfence.proxy.async.shared::cta;\nbar.sync 0;\n\
             shr.u32 %r1, %r0, 4;\ncvt.u64.u32 %da, %r1;\nadd.u64 %db, %da, 2048;\n\
             or.b64 %da, %da, {};\nor.b64 %db, %db, {};\n",
            descriptors[0], descriptors[1]
        );
        // Row 16 * warp + lane / 4 + 8 * (i % 2), byte 4 * (lane % 4) + 16 * (i / 2), unswizzled.
        text.push_str(
            "and.b32 %r1, %tid, 96;\nshr.u32 %r1, %r1, 1;\nshr.u32 %r2, %tid, 2;\nand.b32 %r2, %r2, 7;\n\
             add.u32 %r1, %r1, %r2;\nshl.b32 %r1, %r1, 5;\nand.b32 %r2, %tid, 3;\nshl.b32 %r2, %r2, 2;\n\
             add.u32 %r1, %r1, %r2;\ncvt.u64.u32 %x, %r1;\nadd.u64 %x, %x, %a;\n\
             ld.global.u32 %f0, [%x+65536];\nld.global.u32 %f1, [%x+65792];\n\
             ld.global.u32 %f2, [%x+65552];\nld.global.u32 %f3, [%x+65808];\n",
        );
        for i in 0..count {
            writeln!(text, "mov.b32 %d{i}, {three};").unwrap();
        }
        let sums: Vec<String> = (0..count).map(|i| format!("%d{i}")).collect();
        let a = if self.a_in_registers { "{%f0, %f1, %f2, %f3}" } else { "%da" };
        let sign = |negate: bool| if negate { -1 } else { 1 };
        let bit = |it: bool| u32::from(it);
        let mut flags = String::new();
        if self.sum != "s32" {
            write!(flags, ", {}, {}", sign(self.negate[0]), sign(self.negate[1])).unwrap();
        }
        if self.depth() == 16 {
            if !self.a_in_registers {
                write!(flags, ", {}", bit(self.transposed[0])).unwrap();
            }
            write!(flags, ", {}", bit(self.transposed[1])).unwrap();
        }
        writeln!(
            text,
            "setp.eq.u32 %p2, {}, 1;\nwgmma.fence.sync.aligned;\n\
             wgmma.mma_async.sync.aligned.m64n{}k{}.{}.{}.{} {{{}}}, {a}, %db, %p2{flags};\n\
             wgmma.commit_group.sync.aligned;\n{after}\nwgmma.wait_group.sync.aligned 0;\n\
             mul.lo.u32 %r1, %tid, {};\ncvt.u64.u32 %x, %r1;\nadd.u64 %x, %b, %x;",
            u32::from(self.adds),
            self.n,
            self.depth(),
            self.sum,
            self.a,
            self.b,
            sums.join(", "),
            4 * count
        )
        .unwrap();
        for i in 0..count {
            writeln!(text, "st.global.u32 [%x+{}], %d{i};", 4 * i).unwrap();
        }
        text.push_str("ret;\n}\n");
        text
    }

    fn launch(&self, after: &str) -> (Gpu, u64, Result<vgpu::Report, LaunchError>) {
        self.launch_checked(after, Checks::ALL)
    }

    fn launch_checked(
        &self,
        after: &str,
        checks: Checks,
    ) -> (Gpu, u64, Result<vgpu::Report, LaunchError>) {
        let (a, descriptor_a) = factor(64, self.a, 1, self.span, self.transposed[0]);
        let (b, descriptor_b) = factor(self.n, self.b, 2, self.span, self.transposed[1]);
        let rows: Vec<u8> =
            (0..64 * self.depth()).flat_map(|i| encode(self.a, value(i, 1))).collect();
        let gpu = Gpu::new(&self.kernel([descriptor_a, descriptor_b], after));
        let input = gpu.upload(&[a, b, rows].concat());
        let output = gpu.upload(&vec![0u32; 128 * self.registers()]);
        let shape = Launch { checks: Some(checks), ..launch(1, 128, &[input, output]) };
        let result = gpu.launch("k", &shape);
        (gpu, output, result)
    }

    fn check(&self) {
        let (gpu, output, result) = self.launch("");
        result.unwrap_or_else(|error| panic!("{self:?}: {error}"));
        let words = gpu.download::<u32>(output, 128 * self.registers());
        for row in 0..64 {
            for column in 0..self.n {
                // Thread and register by the ISA's figure of the accumulator.
                let thread = row / 16 * 32 + row % 8 * 4 + column % 8 / 2;
                let (upper, pair) = (row % 16 / 8, column / 8);
                let got = match self.sum {
                    "f16" => {
                        let word = words[thread * self.registers() + 2 * pair + upper];
                        let half = (word >> (16 * (column % 2))) as u16;
                        f16::from_bits(half).to_f32() as i32
                    }
                    sum => {
                        let at = 4 * pair + 2 * upper + column % 2;
                        let word = words[thread * self.registers() + at];
                        if sum == "f32" { f32::from_bits(word) as i32 } else { word as i32 }
                    }
                };
                let k = self.depth();
                let term = |i| {
                    meaning(self.a, value(row * k + i, 1))
                        * meaning(self.b, value(column * k + i, 2))
                };
                let sign = if self.negate[0] != self.negate[1] { -1 } else { 1 };
                let expected = sign * (0..k).map(term).sum::<i32>() + if self.adds { 3 } else { 0 };
                assert_eq!(got, expected, "{self:?} at ({row}, {column})");
            }
        }
    }
}

#[test]
fn products_have_all_types() {
    for (sum, a, b) in [
        ("f32", "f16", "f16"),
        ("f16", "f16", "f16"),
        ("f32", "bf16", "bf16"),
        ("f32", "tf32", "tf32"),
        ("f32", "e4m3", "e4m3"),
        ("f32", "e4m3", "e5m2"),
        ("f16", "e5m2", "e4m3"),
        ("f32", "e5m2", "e5m2"),
        ("s32", "s8", "s8"),
        ("s32", "s8", "u8"),
        ("s32", "u8", "s8"),
        ("s32", "u8", "u8"),
    ] {
        for a_in_registers in [false, true] {
            Case { sum, a, b, a_in_registers, ..CASE }.check();
        }
    }
}

#[test]
fn products_have_all_widths() {
    for n in (8..=256).step_by(8) {
        Case { n, a: "e4m3", b: "e4m3", span: 32, ..CASE }.check();
    }
    for n in [8, 16, 24, 32, 240, 256] {
        Case { n, sum: "s32", a: "s8", b: "s8", span: 64, ..CASE }.check();
    }
}

#[test]
fn products_read_all_layouts() {
    for span in [0, 32, 64, 128] {
        for transposed in [[false, false], [false, true], [true, false], [true, true]] {
            Case { span, transposed, n: 128, ..CASE }.check();
        }
        Case { span, transposed: [false, true], a_in_registers: true, ..CASE }.check();
    }
}

#[test]
fn products_are_negated_and_replace_the_sum() {
    for negate in [[false, true], [true, false], [true, true]] {
        Case { negate, ..CASE }.check();
    }
    Case { adds: false, ..CASE }.check();
}

#[test]
fn operands_that_change_before_the_wait_are_found() {
    // The store hits B; near miss: when all have waited, or beside the operands.
    let bad = "st.shared.u32 [tile+32768], 77;";
    let (_, _, result) = CASE.launch(bad);
    let Err(LaunchError::Fault(fault)) = result else { panic!("{result:?}") };
    assert!(matches!(fault.kind, FaultKind::Race { .. }), "{fault}");
    // The operands are compared by themselves too.
    let (_, _, result) = CASE.launch_checked(bad, Checks::NONE);
    let Err(LaunchError::Fault(fault)) = result else { panic!("{result:?}") };
    let FaultKind::Misuse(message) = &fault.kind else { panic!("{fault}") };
    assert!(message.contains("overwritten before the wait"), "{message}");
    assert!(fault.at.unwrap().instruction.starts_with("wgmma.mma_async"));
    for good in [
        "wgmma.wait_group.sync.aligned 0;\nbar.sync 0;\nst.shared.u32 [tile+32768], 77;",
        "st.shared.u32 [tile+32000], 77;",
    ] {
        let (_, _, result) = CASE.launch(good);
        assert!(result.is_ok(), "{good}: {result:?}");
    }
}

/// Runs a warp that loads words `a` of `inputs` each, executes `body` and stores `%d`s.
fn warp(inputs: &[u32], a: usize, d: usize, body: &str, truncates_fp8: bool) -> Vec<u32> {
    let mut text = format!(
        "{HEADER}.entry k(.param .u64 pa, .param .u64 pb) {{\n.shared .align 128 .b8 tile[1024];\n\
         .reg .b64 %a, %b, %x; .reg .b32 %s<{a}>, %d<{d}>, %tid, %r<8>;\n\
         ld.param.u64 %a, [pa];\nld.param.u64 %b, [pb];\nmov.u32 %tid, %tid.x;\n\
         mul.wide.u32 %x, %tid, {};\nadd.u64 %x, %a, %x;\n",
        4 * a
    );
    for i in 0..a {
        writeln!(text, "ld.global.u32 %s{i}, [%x+{}];", 4 * i).unwrap();
    }
    writeln!(text, "{body}\nmul.wide.u32 %x, %tid, {};\nadd.u64 %x, %b, %x;", 4 * d).unwrap();
    for i in 0..d {
        writeln!(text, "st.global.u32 [%x+{}], %d{i};", 4 * i).unwrap();
    }
    text.push_str("ret;\n}\n");
    let gpu = Gpu::new(&text);
    let (input, output) = (gpu.upload(inputs), gpu.upload(&vec![0u32; 32 * d]));
    let asynchrony = Some(Asynchrony::Earliest);
    let shape = Launch { truncates_fp8, asynchrony, ..launch(1, 32, &[input, output]) };
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
        let got = warp(&inputs, na + nb + 1, 4, &body, false);
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
fn fp8_sums_can_be_truncated() {
    // 2^-7 * 2^-7 in every position of K beside a sum of 1: 32 * 2^-14 is added, or nothing.
    let inputs = vec![0x0404_0404u32; 32];
    let body = "mov.b32 %r0, 0f3F800000;\n\
        mma.sync.aligned.m16n8k32.row.col.f32.e4m3.e4m3.f32 {%d0, %d1, %d2, %d3}, {%s0, %s0, %s0, %s0}, {%s0, %s0}, {%r0, %r0, %r0, %r0};";
    let full = warp(&inputs, 1, 4, body, false);
    assert_eq!(full, vec![(1.0f32 + 32.0 / 16384.0).to_bits(); 128]);
    assert_eq!(warp(&inputs, 1, 4, body, true), vec![1f32.to_bits(); 128]);
}

#[test]
fn matrices_are_loaded_and_stored_in_both_orders() {
    // Four matrices of 8 rows of 16 bytes in shared memory; element e of the tile holds e.
    let fill = "mov.u32 %r0, tile;\nshl.b32 %r1, %tid, 4;\nadd.u32 %r2, %r0, %r1;\nshl.b32 %r3, %tid, 3;\n\
        mad.lo.u32 %r3, %r3, 0x10001, 0x10000;\nadd.u32 %r4, %r3, 0x20002;\nadd.u32 %r5, %r3, 0x40004;\n\
        add.u32 %r6, %r3, 0x60006;\nst.shared.v4.u32 [%r2], {%r3, %r4, %r5, %r6};\nbar.warp.sync -1;\n";
    let element = |matrix: u32, row: u32, column: u32| matrix * 64 + row * 8 + column;
    for (trans, transposed) in [("", false), (".trans", true)] {
        let body = format!(
            "{fill}ldmatrix.sync.aligned.m8n8.x4{trans}.shared.b16 {{%d0, %d1, %d2, %d3}}, [%r2];"
        );
        let got = warp(&[0; 32], 1, 4, &body, false);
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
        let got = warp(&[0; 32], 1, 4, &body, false);
        let expected: Vec<u32> =
            (0..128).map(|i| if i < 64 { (2 * i) | ((2 * i + 1) << 16) } else { 0 }).collect();
        assert_eq!(got, expected, "{trans}");
    }
}
