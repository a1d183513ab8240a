//! The tables of `tests/ops`: an instruction and its cases each, and a kernel that runs them.

use std::fmt::Write as _;

use half::{bf16, f16};

#[derive(Clone, Copy, PartialEq)]
enum Type {
    Pred,
    B16,
    B32,
    B64,
}

impl Type {
    fn parse(text: &str) -> Self {
        match text {
            "pred" => Type::Pred,
            "b16" => Type::B16,
            "b32" => Type::B32,
            "b64" => Type::B64,
            other => panic!("`{other}` is no type"),
        }
    }

    fn mask(self) -> u64 {
        match self {
            Type::Pred => 1,
            Type::B16 => 0xffff,
            Type::B32 => 0xffff_ffff,
            Type::B64 => u64::MAX,
        }
    }

    /// Copies register `from`, of 64 bits, to one of this type.
    fn narrow(self, name: &str, from: &str) -> String {
        match self {
            Type::Pred => format!("setp.ne.b64 {name}, {from}, 0;"),
            Type::B16 => format!("cvt.u16.u64 {name}, {from};"),
            Type::B32 => format!("cvt.u32.u64 {name}, {from};"),
            Type::B64 => format!("mov.b64 {name}, {from};"),
        }
    }

    fn widen(self, to: &str, name: &str) -> String {
        match self {
            Type::Pred => format!("selp.b64 {to}, 1, 0, {name};"),
            Type::B16 => format!("cvt.u64.u16 {to}, {name};"),
            Type::B32 => format!("cvt.u64.u32 {to}, {name};"),
            Type::B64 => format!("mov.b64 {to}, {name};"),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Type::Pred => "pred",
            Type::B16 => "b16",
            Type::B32 => "b32",
            Type::B64 => "b64",
        }
    }
}

struct Section {
    opcode: String,
    dest: Type,
    sources: Vec<Type>,
    extra: String,
    cases: Vec<(Vec<u64>, u64, String)>,
}

fn number(text: &str, ty: Type) -> u64 {
    let float = |text: &str| text.parse::<f64>().expect("a decimal number");
    let bits = match text.split_once(':') {
        // 0x7fc00000 is a NaN in FP32.
        Some(("f", "nan")) => 0x7fc0_0000,
        Some(("f", text)) => text.parse::<f32>().expect("a decimal number").to_bits().into(),
        Some(("d", text)) => float(text).to_bits(),
        Some(("h", text)) => f16::from_f64(float(text)).to_bits().into(),
        Some(("b", text)) => bf16::from_f64(float(text)).to_bits().into(),
        _ => match text.strip_prefix("0x") {
            Some(digits) => u64::from_str_radix(digits, 16).expect("a hexadecimal number"),
            None => text.parse::<i128>().expect("a number") as u64,
        },
    };
    bits & ty.mask()
}

fn sections(text: &str) -> Vec<Section> {
    let mut sections: Vec<Section> = Vec::new();
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        if let Some(case) = line.strip_prefix("  ") {
            let section = sections.last_mut().expect("a heading before the case");
            let (sources, dest) = case.split_once("->").expect("an arrow in the case");
            let sources: Vec<&str> = sources.split_whitespace().collect();
            assert_eq!(sources.len(), section.sources.len(), "{}: {case}", section.opcode);
            let values = sources.iter().zip(&section.sources).map(|(s, ty)| number(s, *ty));
            let expected = number(dest.trim(), section.dest);
            section.cases.push((values.collect(), expected, case.trim().to_owned()));
        } else {
            let (heading, extra) = line.split_once(';').unwrap_or((line, ""));
            let mut words = heading.split_whitespace();
            let opcode = words.next().expect("an opcode").to_owned();
            let dest = Type::parse(words.next().expect("a destination"));
            assert_eq!(words.next(), Some("<-"));
            let sources = words.map(Type::parse).collect();
            sections.push(Section {
                opcode,
                dest,
                sources,
                extra: extra.trim().to_owned(),
                cases: Vec::new(),
            });
        }
    }
    sections
}

/// A kernel that reads each thread's sources from `input` and writes its result to `output`.
fn kernel(section: &Section) -> String {
    let mut text = String::from(
        ".version 8.7\n.target sm_90a\n.address_size 64\n\
         .entry k(.param .u64 input, .param .u64 output) {\n\
         .reg .b64 %in, %out, %wide, %at; .reg .b32 %t;\n\
         ld.param.u64 %in, [input];\nld.param.u64 %out, [output];\nmov.u32 %t, %tid.x;\n",
    );
    let count = section.sources.len();
    let mut operands = String::new();
    writeln!(text, "mul.wide.u32 %at, %t, {};\nadd.s64 %in, %in, %at;", 8 * count).unwrap();
    text.push_str("mul.wide.u32 %at, %t, 8;\nadd.s64 %out, %out, %at;\n");
    for (i, ty) in section.sources.iter().enumerate() {
        let narrow = ty.narrow(&format!("s{i}"), "%wide");
        writeln!(text, ".reg .{} s{i};", ty.name()).unwrap();
        writeln!(text, "ld.global.b64 %wide, [%in+{}];\n{narrow}", 8 * i).unwrap();
        write!(operands, ", s{i}").unwrap();
    }
    if !section.extra.is_empty() {
        write!(operands, ", {}", section.extra).unwrap();
    }
    writeln!(text, ".reg .{} d;\n{} d{operands};", section.dest.name(), section.opcode).unwrap();
    writeln!(text, "{}\nst.global.b64 [%out], %wide;\nret;\n}}", section.dest.widen("%wide", "d"))
        .unwrap();
    text
}

/// Runs every section of a table, one case a thread, and tells which results differ.
///
/// `launch` runs kernel `k` of a module in one block with that many threads, which take the words of
/// the inputs in turn and write a word each.
pub fn differences(
    text: &str,
    mut launch: impl FnMut(&str, usize, &[u64]) -> Result<Vec<u64>, String>,
) -> Vec<String> {
    let mut differences = Vec::new();
    for section in sections(text) {
        let inputs: Vec<u64> = section.cases.iter().flat_map(|case| case.0.clone()).collect();
        let results = match launch(&kernel(&section), section.cases.len(), &inputs) {
            Ok(results) => results,
            Err(error) => {
                differences.push(format!("{}: {error}", section.opcode));
                continue;
            }
        };
        for ((_, expected, case), got) in section.cases.iter().zip(results) {
            if got != *expected {
                let opcode = &section.opcode;
                differences.push(format!("{opcode}: {case}: expected {expected:#x}, got {got:#x}"));
            }
        }
    }
    differences
}
