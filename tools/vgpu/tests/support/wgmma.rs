//! One `wgmma` in a kernel, against sums of small integers that are exact in every type.

use std::fmt::Write as _;

use half::{bf16, f16};
use vgpu::LaunchError;

use super::{Gpu, launch};

const HEADER: &str = ".version 8.7\n.target sm_90a\n.address_size 64\n";

/// Value `i` of a factor: -2 to 2, or 0 to 4 if unsigned.
pub fn value(i: usize, seed: usize) -> i32 {
    ((i * 7 + i / 5 * 3 + seed) % 5) as i32 - 2
}

/// Bytes of a small integer in a type.
pub fn encode(ty: &str, x: i32) -> Vec<u8> {
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
pub fn meaning(ty: &str, x: i32) -> i32 {
    if ty == "u8" { x + 2 } else { x }
}

/// A factor in shared memory: its bytes and the descriptor without its address.
pub fn factor(rows: usize, ty: &str, seed: usize, span: usize, transposed: bool) -> (Vec<u8>, u64) {
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
pub struct Case {
    pub n: usize,
    pub sum: &'static str,
    pub a: &'static str,
    pub b: &'static str,
    pub span: usize,
    pub transposed: [bool; 2],
    pub a_in_registers: bool,
    pub negate: [bool; 2],
    /// The sum starts from the registers, which hold 3.
    pub adds: bool,
}

pub const CASE: Case = Case {
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

    fn kernel(&self, descriptors: [u64; 2]) -> String {
        let count = self.registers();
        let three = match self.sum {
            "f32" => 0x4040_0000u32,
            "f16" => 0x4200_4200,
            _ => 3,
        };
        let mut text = format!(
            "{HEADER}.entry k(.param .u64 pa, .param .u64 pb) {{\n\
             .shared .align 1024 .b8 tile[65536];\n.reg .b64 %a, %b, %x, %da, %db; .reg .pred %p<3>;\n\
             .reg .b32 %d<{count}>, %f<4>, %me, %r<8>;\n\
             ld.param.u64 %a, [pa];\nld.param.u64 %b, [pb];\nmov.u32 %me, %tid.x;\n\
             mov.u32 %r0, tile;\nshl.b32 %r1, %me, 2;\n\
             $copy: cvt.u64.u32 %x, %r1;\nadd.u64 %x, %a, %x;\nld.global.u32 %r2, [%x];\n\
             add.u32 %r3, %r0, %r1;\nst.shared.u32 [%r3], %r2;\nadd.u32 %r1, %r1, 512;\n\
             setp.lt.u32 %p1, %r1, 65536;\n@%p1 bra $copy;\nfence.proxy.async.shared::cta;\nbar.sync 0;\n\
             shr.u32 %r1, %r0, 4;\ncvt.u64.u32 %da, %r1;\nadd.u64 %db, %da, 2048;\n\
             or.b64 %da, %da, {};\nor.b64 %db, %db, {};\n",
            descriptors[0], descriptors[1]
        );
        // Row 16 * warp + lane / 4 + 8 * (i % 2), byte 4 * (lane % 4) + 16 * (i / 2), unswizzled.
        text.push_str(
            "and.b32 %r1, %me, 96;\nshr.u32 %r1, %r1, 1;\nshr.u32 %r2, %me, 2;\nand.b32 %r2, %r2, 7;\n\
             add.u32 %r1, %r1, %r2;\nshl.b32 %r1, %r1, 5;\nand.b32 %r2, %me, 3;\nshl.b32 %r2, %r2, 2;\n\
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
             wgmma.commit_group.sync.aligned;\nwgmma.wait_group.sync.aligned 0;\n\
             mul.lo.u32 %r1, %me, {};\ncvt.u64.u32 %x, %r1;\nadd.u64 %x, %b, %x;",
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

    pub fn launch(&self) -> (Gpu, u64, Result<vgpu::Report, LaunchError>) {
        let (a, descriptor_a) = factor(64, self.a, 1, self.span, self.transposed[0]);
        let (b, descriptor_b) = factor(self.n, self.b, 2, self.span, self.transposed[1]);
        let rows: Vec<u8> =
            (0..64 * self.depth()).flat_map(|i| encode(self.a, value(i, 1))).collect();
        let gpu = Gpu::new(&self.kernel([descriptor_a, descriptor_b]));
        let input = gpu.upload(&[a, b, rows].concat());
        let output = gpu.upload(&vec![0u32; 128 * self.registers()]);
        let result = gpu.launch("k", &launch(1, 128, &[input, output]));
        (gpu, output, result)
    }

    pub fn check(&self) {
        let (gpu, output, result) = self.launch();
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
