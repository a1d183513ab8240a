//! Products whose bits a GPU has given: instructions, their inputs by a seed, a kernel for each, and
//! the file with the results (`tests/golden/products.txt`).

mod inputs;

use std::fmt::Write as _;

use inputs::{Dice, Format, PATTERNS, Pattern};

/// A product of tensor cores: `wgmma` with 64 rows and A in registers, or `mma.sync` with 16; both with 8
/// columns.
#[derive(Clone, Copy)]
pub struct Instruction {
    is_wgmma: bool,
    sum: &'static str,
    a: &'static str,
    b: &'static str,
    k: usize,
}

const fn wgmma(sum: &'static str, a: &'static str, b: &'static str, k: usize) -> Instruction {
    Instruction { is_wgmma: true, sum, a, b, k }
}

const fn mma(sum: &'static str, a: &'static str, b: &'static str, k: usize) -> Instruction {
    Instruction { is_wgmma: false, sum, a, b, k }
}

const INSTRUCTIONS: [Instruction; 24] = [
    wgmma("f32", "e4m3", "e4m3", 32),
    wgmma("f32", "e5m2", "e5m2", 32),
    wgmma("f32", "e4m3", "e5m2", 32),
    wgmma("f16", "e4m3", "e4m3", 32),
    wgmma("f16", "e5m2", "e4m3", 32),
    wgmma("f32", "f16", "f16", 16),
    wgmma("f16", "f16", "f16", 16),
    wgmma("f32", "bf16", "bf16", 16),
    wgmma("f32", "tf32", "tf32", 8),
    wgmma("s32", "s8", "s8", 32),
    wgmma("s32", "u8", "s8", 32),
    mma("f32", "f16", "f16", 16),
    mma("f32", "f16", "f16", 8),
    mma("f16", "f16", "f16", 16),
    mma("f16", "f16", "f16", 8),
    mma("f32", "bf16", "bf16", 16),
    mma("f32", "bf16", "bf16", 8),
    mma("f32", "tf32", "tf32", 8),
    mma("f32", "tf32", "tf32", 4),
    mma("f32", "e4m3", "e4m3", 32),
    mma("f32", "e4m3", "e5m2", 16),
    mma("f16", "e5m2", "e5m2", 32),
    mma("s32", "s8", "s8", 32),
    mma("s32", "u8", "u8", 16),
];

/// Codes of A and B, row by row, and of the sum before.
struct Inputs {
    a: Vec<u32>,
    b: Vec<u32>,
    sum: Vec<u32>,
}

const COLUMNS: usize = 8;

impl Instruction {
    fn name(&self) -> String {
        let Instruction { sum, a, b, k, .. } = self;
        let shape = if self.is_wgmma { "wgmma.m64n8" } else { "mma.m16n8" };
        format!("{shape}k{k}.{sum}.{a}.{b}")
    }

    fn rows(&self) -> usize {
        if self.is_wgmma { 64 } else { 16 }
    }

    fn num_threads(&self) -> usize {
        2 * self.rows()
    }

    fn bytes(&self) -> usize {
        match self.a {
            "tf32" => 4,
            "f16" | "bf16" => 2,
            _ => 1,
        }
    }

    /// Bytes of a row of A.
    fn depth(&self) -> usize {
        self.k * self.bytes()
    }

    /// Registers of a thread: of A, of B and of the sum.
    fn registers(&self) -> [usize; 3] {
        let b = if self.is_wgmma { 0 } else { self.depth() / 16 };
        [self.depth() / 8, b, if self.sum == "f16" { 2 } else { 4 }]
    }

    fn inputs(&self, pattern: Pattern) -> Inputs {
        let text = format!("{} {pattern:?}", self.name());
        let dice = &mut Dice(hash(text.bytes().map(u64::from)));
        let counts = [self.rows() * self.k, COLUMNS * self.k, self.rows() * COLUMNS];
        if self.sum == "s32" {
            let mut codes = |count: usize| (0..count).map(|_| dice.next() as u32 & 0xff).collect();
            let (a, b) = (codes(counts[0]), codes(counts[1]));
            return Inputs { a, b, sum: (0..counts[2]).map(|_| dice.next() as u32).collect() };
        }
        let [a, b, sum] = [self.a, self.b, self.sum].map(Format::of);
        let ranges = pattern.exponents(a, b, sum);
        let mut draw = |format: Format, range, count: usize| -> Vec<u32> {
            let mut one = || {
                let code = format.draw(dice, range);
                pattern.changes(format, self.k, code, dice)
            };
            (0..count).map(|_| one()).collect()
        };
        let mut inputs = Inputs {
            a: draw(a, ranges[0], counts[0]),
            b: draw(b, ranges[1], counts[1]),
            sum: Vec::new(),
        };
        if pattern == Pattern::Cancel {
            let half = self.k / 2;
            for row in inputs.b.chunks_mut(self.k) {
                row.copy_within(..half, half);
            }
            for row in inputs.a.chunks_mut(self.k) {
                for i in (0..half).filter(|_| !dice.one_in(8)) {
                    row[half + i] = a.negated(row[i]);
                }
            }
        }
        if pattern == Pattern::Tiny && a.is_long() {
            // A and B of 2^-70 first; the others' signs differ from theirs.
            for row in inputs.a.chunks_mut(self.k) {
                row.iter_mut().for_each(|code| *code = a.negative(*code));
                row[0] = a.power_of_two(-70);
            }
            for row in inputs.b.chunks_mut(self.k) {
                row.iter_mut().for_each(|code| *code = b.negated(b.negative(*code)));
                row[0] = b.power_of_two(-70);
            }
        }
        inputs.sum = (0..counts[2]).map(|_| pattern.sum(sum, ranges[2], dice)).collect();
        inputs
    }

    /// Bytes of codes; the low bits of TF32, which do not count, are set.
    fn encode(&self, codes: &[u32]) -> Vec<u8> {
        let word = |code: u32| if self.a == "tf32" { code << 13 | 0x1fff } else { code };
        codes
            .iter()
            .flat_map(|code| word(*code).to_le_bytes().into_iter().take(self.bytes()))
            .collect()
    }

    /// Each thread's registers, one thread after the other; and the words of B in shared memory, in
    /// blocks of 16 bytes of K.
    fn words(&self, inputs: &Inputs) -> [Vec<u32>; 2] {
        let (a, b) = (self.encode(&inputs.a), self.encode(&inputs.b));
        let word = |bytes: &[u8], row: usize, at: usize| {
            let from = &bytes[row * self.depth() + at..];
            u32::from_le_bytes([from[0], from[1], from[2], from[3]])
        };
        let [num_a, num_b, num_sum] = self.registers();
        let mut words = Vec::new();
        for thread in 0..self.num_threads() {
            let (row, lane) = (thread / 32 * 16 + thread % 32 / 4, thread % 4);
            words.extend((0..num_a).map(|r| word(&a, row + r % 2 * 8, 4 * lane + r / 2 * 16)));
            words.extend((0..num_b).map(|r| word(&b, thread % 32 / 4, 4 * lane + r * 16)));
            let sum = |row: usize, column: usize| inputs.sum[row * COLUMNS + 2 * lane + column];
            words.extend((0..num_sum).map(|r| match num_sum {
                2 => sum(row + 8 * r, 0) | sum(row + 8 * r, 1) << 16,
                _ => sum(row + r / 2 * 8, r % 2),
            }));
        }
        let shared = (0..64).map(|i| word(&b, i % 32 / 4, i / 32 * 16 % self.depth() + i % 4 * 4));
        [words, shared.collect()]
    }

    /// Takes the addresses of the words, of B's words and of the results.
    fn kernel(&self) -> String {
        let [num_a, num_b, num_sum] = self.registers();
        let count = num_a + num_b + num_sum;
        let names = |name: &str, range: std::ops::Range<usize>| {
            range.map(|i| format!("%{name}{i}")).collect::<Vec<_>>().join(", ")
        };
        let mut text = format!(
            ".version 8.7\n.target sm_90a\n.address_size 64\n\
             .entry k(.param .u64 pa, .param .u64 pb, .param .u64 pd) {{\n\
             .reg .b64 %a, %b, %d, %x; .reg .b32 %s<{count}>, %t, %u, %v; .reg .pred %p;\n\
             .shared .align 1024 .b8 tile[256];\n\
             ld.param.u64 %a, [pa];\nld.param.u64 %b, [pb];\nld.param.u64 %d, [pd];\n\
             mov.u32 %t, %tid.x;\nmov.u32 %u, tile;\n\
             mul.wide.u32 %x, %t, {};\nadd.u64 %a, %a, %x;\n\
             mul.wide.u32 %x, %t, {};\nadd.u64 %d, %d, %x;\n\
             mul.wide.u32 %x, %t, 4;\nadd.u64 %b, %b, %x;\n",
            4 * count,
            4 * num_sum
        );
        for i in 0..count {
            writeln!(text, "ld.global.u32 %s{i}, [%a+{}];", 4 * i).unwrap();
        }
        let (first_b, first_sum) = (num_a, num_a + num_b);
        let (a, sum) = (names("s", 0..num_a), names("s", first_sum..count));
        let types = format!("{}.{}.{}", self.sum, self.a, self.b);
        if self.is_wgmma {
            let flags = match (self.sum, self.bytes()) {
                ("s32", _) => "",
                (_, 2) => ", 1, 1, 0",
                _ => ", 1, 1",
            };
            // The 16 bytes that follow in K are 128 further on, the next eight rows 256.
            let strides = 8u64 << 16 | 16 << 32;
            write!(
                text,
                "setp.lt.u32 %p, %t, 64;\nshl.b32 %v, %t, 2;\nadd.u32 %v, %u, %v;\n\
                 @%p ld.global.u32 %t, [%b];\n@%p st.shared.u32 [%v], %t;\n\
                 fence.proxy.async.shared::cta;\nbar.sync 0;\n\
                 shr.u32 %u, %u, 4;\ncvt.u64.u32 %x, %u;\nadd.u64 %x, %x, {strides};\n\
                 setp.eq.u32 %p, 1, 1;\nwgmma.fence.sync.aligned;\n\
                 wgmma.mma_async.sync.aligned.m64n8k{}.{types} {{{sum}}}, {{{a}}}, %x, %p{flags};\n\
                 wgmma.commit_group.sync.aligned;\nwgmma.wait_group.sync.aligned 0;\n",
                self.k
            )
            .unwrap();
        } else {
            let b = names("s", first_b..first_sum);
            writeln!(
                text,
                "mma.sync.aligned.m16n8k{}.row.col.{types}.{} {{{sum}}}, {{{a}}}, {{{b}}}, {{{sum}}};",
                self.k, self.sum
            )
            .unwrap();
        }
        for i in 0..num_sum {
            writeln!(text, "st.global.u32 [%d+{}], %s{};", 4 * i, first_sum + i).unwrap();
        }
        text.push_str("ret;\n}\n");
        text
    }
}

/// A kernel `k` of one block, with the words that its first two arguments point to, and the number of
/// those that its third does.
pub struct Launch {
    pub ptx: String,
    pub num_threads: usize,
    pub inputs: [Vec<u32>; 2],
    pub num_results: usize,
}

/// Results that stand in the file as they are; all count for the hash behind them.
const SHOWN: usize = 16;

/// All instructions with all inputs, as the file has them.
pub fn record(mut launch: impl FnMut(&Launch) -> Result<Vec<u32>, String>) -> String {
    let mut text = String::new();
    for instruction in INSTRUCTIONS {
        writeln!(text, "{}", instruction.name()).unwrap();
        for pattern in PATTERNS {
            let num_results = instruction.num_threads() * instruction.registers()[2];
            let results = launch(&Launch {
                ptx: instruction.kernel(),
                num_threads: instruction.num_threads(),
                inputs: instruction.words(&instruction.inputs(pattern)),
                num_results,
            });
            write!(text, "  {pattern:?}").unwrap();
            match results {
                Ok(words) => {
                    words[..SHOWN].iter().for_each(|word| write!(text, " {word:08x}").unwrap());
                    writeln!(text, " {:016x}", hash(words.into_iter().map(u64::from))).unwrap();
                }
                Err(error) => writeln!(text, " {error}").unwrap(),
            }
        }
    }
    text
}

/// Lines of a recording that are not in the golden file's, with the instruction; `#` starts remarks there.
pub fn differences(golden: &str, recorded: &str) -> Vec<String> {
    let mut lines = golden.lines().filter(|line| !line.starts_with('#'));
    let mut instruction = "";
    let mut differences = Vec::new();
    for got in recorded.lines() {
        let expected = lines.next().unwrap_or("nothing");
        if !got.starts_with(' ') {
            instruction = got;
        }
        if got != expected {
            differences.push(format!("{instruction}\n  expected {expected}\n  got      {got}"));
        }
    }
    differences.extend(lines.map(|line| format!("{instruction}\n  missing  {line}")));
    differences
}

/// FNV-1a over 64-bit words.
fn hash(words: impl Iterator<Item = u64>) -> u64 {
    words.fold(0xcbf2_9ce4_8422_2325, |sum, word| (sum ^ word).wrapping_mul(0x0100_0000_01b3))
}
