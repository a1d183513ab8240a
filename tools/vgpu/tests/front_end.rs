//! The PTX front end: what it reads, that printing is the inverse of parsing, that no text makes it
//! panic.

use proptest::prelude::*;
use vgpu::ptx::ast::{Init, Item, Linkage, Loc, Module, Operand, Space, Statement, Variable};
use vgpu::ptx::parse;

/// nvcc 13.2's output for `ptx/basic.cu`.
const BASIC: &str = include_str!("ptx/basic.ptx");
/// The same for `ptx/bulk.cu`.
const BULK: &str = include_str!("ptx/bulk.ptx");
/// Syntax that nvcc's output lacks: scopes, vectors, sinks, pairs, odd literals.
const SYNTAX: &str = include_str!("ptx/syntax.ptx");

fn body<'a>(module: &'a Module<'a>, kernel: &str) -> &'a [Statement<'a>] {
    let function = module.items.iter().find_map(|item| match item {
        Item::Function(function) if function.name == kernel => function.body.as_deref(),
        _ => None,
    });
    function.expect("the kernel has a body")
}

fn assert_round_trip(source: &str) {
    let first = parse(source).expect("the source is PTX");
    let text = first.to_string();
    let second = parse(&text).expect("printed text is PTX");
    assert_eq!(second.to_string(), text);
}

#[test]
fn what_is_printed_parses_to_what_was_printed() {
    assert_round_trip(BASIC);
    assert_round_trip(BULK);
    assert_round_trip(SYNTAX);
}

#[test]
fn a_module_keeps_its_header_files_and_variables() {
    let module = parse(BULK).expect("nvcc's output is PTX");
    assert_eq!(module.version, (9, 2));
    assert_eq!(module.targets, ["sm_90a"]);
    assert_eq!(module.address_bits, 64);
    assert!(module.items.contains(&Item::File { index: 1, path: "bulk.cu" }));
    let tile = module.items.iter().find_map(|item| match item {
        Item::Variable(variable) if variable.name == "tile" => Some(variable),
        _ => None,
    });
    let expected = Variable {
        linkage: Some(Linkage::Extern),
        space: Space::Shared,
        align: Some(128),
        vector: 1,
        ty: "b8",
        pointer: vec![],
        name: "tile",
        count: None,
        dims: vec![None],
        init: None,
        line: tile.map_or(0, |variable| variable.line),
    };
    assert_eq!(tile, Some(&expected));
}

#[test]
fn an_initialiser_may_take_addresses() {
    let module = parse(BASIC).expect("nvcc's output is PTX");
    let names = module.items.iter().find_map(|item| match item {
        Item::Variable(variable) if variable.name == "names" => variable.init.clone(),
        _ => None,
    });
    let address = |symbol| Init::Address { generic: true, symbol, offset: 0 };
    assert_eq!(names, Some(Init::List(vec![address("$str"), address("$str$1")])));
}

#[test]
fn operands_of_every_form_are_read() {
    let module = parse(SYNTAX).expect("the file is PTX");
    let mut printed = Vec::new();
    collect(body(&module, "syntax"), &mut printed);
    let expected = [
        "mov.u32 %r1, %tid.x;",
        "mov.b64 {%r2, _}, %rd1;",
        "@!%p1 bra $inner;",
        "shfl.sync.idx.b32 %r1|%p1, %r2, 0, 31, -1;",
        "setp.lt.and.s32 %p1|%p2, %r1, -5, !%p1;",
        "ld.global.nc.L1::no_allocate.v4.f32 {%f1, %f2, %f3, %f4}, [%rd1+-16];",
        "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%r1], [%rd1, \
         {%r1, %r2}], [%r2];",
        "mov.f32 %f1, 0f3F800000;",
        "add.f32 %f1, %f1, 0fBF800000;",
        "mov.f64 %d1, 0d3FF8000000000000;",
        "mov.u64 %rd1, buffer+8;",
        "ld.u8 %r1, [buffer+3];",
        "ld.global.u32 %r1, [16];",
        "mov.u32 %r1, 255;",
        "mov.u32 %r1, 8;",
        "mov.u32 %r1, 5;",
        "call.uni (%r1), device, (%r1, %r2);",
        "ret;",
    ];
    assert_eq!(printed, expected);
}

fn collect(statements: &[Statement<'_>], out: &mut Vec<String>) {
    for statement in statements {
        match statement {
            Statement::Instruction(instruction) => out.push(instruction.to_string()),
            Statement::Block(inner) => collect(inner, out),
            _ => {}
        }
    }
}

#[test]
fn every_instruction_knows_its_line_and_source_line() {
    let source = ".version 9.0\n.target sm_90a\n.address_size 64\n.entry k()\n{\n.loc 1 7 3, \
                  function_name $L__x+5, inlined_at 1 9 2\nret;\n}\n";
    let module = parse(source).expect("the text is PTX");
    let [Statement::Loc(loc), Statement::Instruction(ret)] = body(&module, "k") else {
        panic!("a .loc and a ret");
    };
    assert_eq!(ret.line, 7);
    assert!(matches!(loc, Loc { file: 1, line: 7, column: 3, inlined: Some(_) }));
}

#[test]
fn an_error_names_the_line_and_both_sides() {
    let source = ".version 9.0\n.target sm_90a\n.entry k()\n{\n  mov.u32 %r1 5;\n}\n";
    let error = parse(source).expect_err("a comma is missing");
    assert_eq!(error.to_string(), "line 5: expected `,`, got `5`");
}

#[test]
fn deep_nesting_is_refused() {
    for (open, close) in [("{", "}"), ("mov.b32 a, ", ";"), ("mov.b32 a, {", "")] {
        let opening = if open.starts_with('{') { open.repeat(500) } else { "!".repeat(500) };
        let source = format!(".entry k() {{ {open}{opening}{close}");
        assert!(parse(&source).is_err());
    }
}

/// Breaks the two files in every way that a few thousand seeded edits find.
#[test]
fn no_edit_of_a_module_makes_the_parser_panic() {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut random = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below as u64) as usize
    };
    let snippets: [&str; 12] =
        ["{", "}", "[", "]", "(", "<99999999999>", "0x", "\"", "/*", "é", ".param", "-"];
    for source in [&BASIC[..9000], SYNTAX] {
        for _ in 0..1500 {
            let mut bytes = source.as_bytes().to_vec();
            for _ in 0..=random(4) {
                let at = random(bytes.len());
                let until = (at + random(40)).min(bytes.len());
                match random(4) {
                    0 => bytes.truncate(at.max(1)),
                    1 => drop(bytes.drain(at..until)),
                    2 => bytes[at] = random(256) as u8,
                    _ => drop(bytes.splice(at..at, snippets[random(snippets.len())].bytes())),
                }
                if bytes.is_empty() {
                    bytes.push(b' ');
                }
            }
            let text = String::from_utf8_lossy(&bytes);
            if let Ok(module) = parse(&text) {
                let printed = module.to_string();
                let again = parse(&printed).expect("printed text is PTX");
                assert_eq!(again.to_string(), printed);
            }
        }
    }
}

fn operand() -> impl Strategy<Value = Operand<'static>> {
    let names = prop::sample::select(vec!["%r1", "%rd20", "_", "$L__BB0_1", "symbol", "x$y_z"]);
    let leaf = prop_oneof![
        names.clone().prop_map(Operand::Name),
        names.clone().prop_map(|name| Operand::Member(name, "x")),
        (names.clone(), prop_oneof![1i64..=i64::MAX, i64::MIN + 1..=-1])
            .prop_map(|(name, offset)| Operand::Offset(name, offset)),
        (any::<u64>(), any::<bool>())
            .prop_map(|(value, negative)| Operand::Int { value, negative }),
        any::<u32>().prop_map(Operand::F32),
        any::<u64>().prop_map(Operand::F64),
        names.clone().prop_map(|name| Operand::Not(Box::new(Operand::Name(name)))),
    ];
    leaf.prop_recursive(3, 12, 5, move |inner| {
        let parts = prop::collection::vec(inner.clone(), 1..5);
        prop_oneof![
            parts.clone().prop_map(Operand::Vector),
            parts.clone().prop_map(Operand::List),
            (names.clone(), i64::MIN + 1..=i64::MAX, prop::collection::vec(inner, 0..3)).prop_map(
                |(name, offset, more)| Operand::Memory {
                    base: Box::new(Operand::Name(name)),
                    offset,
                    more,
                }
            ),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..Default::default() })]

    #[test]
    fn operands_survive_printing(operands in prop::collection::vec(operand(), 1..6)) {
        let list: Vec<String> = operands.iter().map(ToString::to_string).collect();
        let source = format!(".entry k() {{ op.b32 {}; }}", list.join(", "));
        let module = parse(&source).expect("printed operands are PTX");
        let [Statement::Instruction(instruction)] = body(&module, "k") else {
            panic!("one instruction");
        };
        prop_assert_eq!(&instruction.operands, &operands);
    }

    #[test]
    fn no_text_makes_the_parser_panic(text in "[ -~\n]{0,200}") {
        let _ = parse(&text);
    }
}
