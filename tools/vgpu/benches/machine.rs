//! How fast kernels run: `cargo bench -p vgpu [-- PART OF A NAME]`. The times are those of one element:
//! a warp instruction, a `wgmma` of a warpgroup, a byte of PTX.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use vgpu::{Accumulation, Asynchrony, Checks, Image, Launch, Memory, Program};

const HEADER: &str = ".version 8.7\n.target sm_90a\n.address_size 64\n";

/// A kernel whose threads run `body` a hundred times, and `room` in global memory.
fn looped(declarations: &str, body: &str) -> String {
    format!(
        "{HEADER}.global .align 128 .b8 room[32768];\n.entry k() {{\n.reg .b32 %count; .reg .pred %more;\n{declarations}\n\
         mov.u32 %count, 0;\n$again:\n{body}\nadd.u32 %count, %count, 1;\n\
         setp.lt.u32 %more, %count, 100;\n@%more bra $again;\nret;\n}}\n"
    )
}

/// 256 instructions of `lines`, in turn.
fn straight(lines: &[&str]) -> String {
    lines.iter().cycle().take(256).map(|line| format!("{line}\n")).collect()
}

/// Measures a kernel; an element is one of `count(instructions)`.
fn measure(
    criterion: &mut Criterion,
    name: &str,
    text: &str,
    launch: &Launch,
    count: impl Fn(u64) -> u64,
) {
    let program = Arc::new(Program::load(text).expect("the benchmark's kernel loads"));
    let memory = Arc::new(Memory::with_checks(launch.checks.unwrap_or(Checks::NONE)));
    let image = Image::load(program, memory, 0).expect("room for the variables");
    criterion.bench_function(name, |bencher| {
        bencher.iter_custom(|iterations| {
            let mut total = Duration::ZERO;
            for _ in 0..iterations {
                let start = Instant::now();
                let report = image.launch("k", launch).expect("the benchmark's kernel runs");
                let elements = count(report.instructions);
                total += Duration::from_secs_f64(start.elapsed().as_secs_f64() / elements as f64);
            }
            total
        });
    });
}

fn launch(blocks: u32, threads: u32) -> Launch {
    Launch {
        grid: [blocks, 1, 1],
        block: [threads, 1, 1],
        num_sms: 4,
        asynchrony: Some(Asynchrony::Earliest),
        checks: Some(Checks::NONE),
        ..Launch::default()
    }
}

const INTEGER: [&str; 6] = [
    "add.u32 %r0, %r0, %r5;",
    "mad.lo.u32 %r1, %r1, %r5, %r4;",
    "xor.b32 %r2, %r2, %r4;",
    "shl.b32 %r3, %r5, 3;",
    "min.s32 %r4, %r4, %r5;",
    "sub.u32 %r0, %r0, %r1;",
];
const FLOAT: [&str; 5] = [
    "fma.rn.f32 %f0, %f0, %f4, %f5;",
    "mul.rn.f32 %f1, %f1, %f4;",
    "add.rn.f32 %f2, %f2, %f5;",
    "max.f32 %f3, %f3, %f4;",
    "fma.rn.f32 %f1, %f2, %f4, %f1;",
];
/// Each takes what the one before it has just written.
const CHAIN: [&str; 2] = ["fma.rn.f32 %f0, %f1, %f4, %f5;", "mul.rn.f32 %f1, %f0, %f4;"];
const MEMORY: [&str; 2] =
    ["ld.shared.v4.u32 {%r0, %r1, %r2, %r3}, [%r5];", "st.shared.u32 [%r5], %r1;"];

/// Registers for all of these; 16 bytes of shared memory for each thread are at `%r5`.
const REGISTERS: &str = ".reg .b32 %r<6>, %f<6>; .shared .align 16 .b8 tile[2048];\n\
    mov.u32 %r5, %tid.x;\nshl.b32 %r5, %r5, 4;\nmov.u32 %r4, tile;\nadd.u32 %r5, %r5, %r4;\n\
    mov.u32 %r0, 1;\nmov.u32 %r1, 2;\nmov.u32 %r2, 3;\nmov.u32 %r3, 4;\n\
    mov.f32 %f0, 0f3F800000;\nmov.f32 %f1, %f0;\nmov.f32 %f2, %f0;\nmov.f32 %f3, %f0;\n\
    mov.f32 %f4, 0f3F7F0000;\nmov.f32 %f5, %f0;\nst.shared.v4.u32 [%r5], {%r0, %r1, %r2, %r3};";

fn instructions(criterion: &mut Criterion) {
    let cases: [(&str, &[&str]); 4] = [
        ("integer", &INTEGER),
        ("float", &FLOAT),
        ("float_chain", &CHAIN),
        ("shared_memory", &MEMORY),
    ];
    for (name, lines) in cases {
        let text = looped(REGISTERS, &straight(lines));
        let name = format!("warp_instruction/{name}");
        measure(criterion, &name, &text, &launch(1, 128), |instructions| instructions);
    }
    // Elements are those of both cores together.
    let text = looped(REGISTERS, &straight(&INTEGER));
    for host_threads in [1, 2] {
        let name = format!("warp_instruction/8_blocks_on_{host_threads}_threads");
        let launch = Launch { host_threads, ..launch(8, 128) };
        measure(criterion, &name, &text, &launch, |instructions| instructions);
    }
}

/// Four products and a wait, as a GEMM kernel's step of 128 bytes of K.
fn product(types: &str, step: u32) -> String {
    let sums = (0..64).map(|i| format!("%d{i}")).collect::<Vec<_>>().join(", ");
    let flags = if step == 16 { "1, 1, 1, 0, 0" } else { "1, 1, 1" };
    let mut body = "wgmma.fence.sync.aligned;\n".to_owned();
    for i in 0..4 {
        write!(
            body,
            "add.u64 %x, %a, {0};\nadd.u64 %y, %b, {0};\n\
             wgmma.mma_async.sync.aligned.m64n128k{step}.f32.{types} {{{sums}}}, %x, %y, {flags};\n",
            2 * i
        )
        .expect("a string takes what is written");
    }
    body + "wgmma.commit_group.sync.aligned;\nwgmma.wait_group.sync.aligned 0;"
}

/// Registers and shared memory of a product.
fn product_set_up() -> String {
    let mut set_up = ".reg .b64 %a, %b, %x, %y; .reg .b32 %d<64>, %t;\n\
        .shared .align 1024 .b8 tile[24576];\nmov.u32 %t, tile;\nshr.u32 %t, %t, 4;\n\
        cvt.u64.u32 %a, %t;\nor.b64 %a, %a, 0x4000004000010000;\nadd.u64 %b, %a, 512;\n"
        .to_owned();
    for i in 0..64 {
        writeln!(set_up, "mov.b32 %d{i}, 0;").expect("a string takes what is written");
    }
    set_up
}

fn products(criterion: &mut Criterion) {
    let set_up = product_set_up();
    for (name, types, step) in [("e4m3", "e4m3.e4m3", 32), ("bf16", "bf16.bf16", 16)] {
        let text = looped(&set_up, &product(types, step));
        for (how, accumulation) in [("fp32", Accumulation::Fp32), ("hopper", Accumulation::Hopper)]
        {
            let name = format!("wgmma/m64n128k{step}_{name}_{how}");
            let launch = Launch { accumulation: Some(accumulation), ..launch(1, 128) };
            measure(criterion, &name, &text, &launch, |_| 400);
        }
    }
}

/// Loads and stores at `%x` and behind it, of one byte or word each.
fn global_accesses(ty: &str) -> String {
    let lines: Vec<String> = (0..8)
        .map(|i| {
            let at = 8192 * (i / 2);
            match i % 2 {
                0 => format!("ld.global.{ty} %r0, [%x+{at}];"),
                _ => format!("st.global.{ty} [%x+{at}], %r1;"),
            }
        })
        .collect();
    straight(&lines.iter().map(String::as_str).collect::<Vec<_>>())
}

/// The same with and without all checks.
fn checks(criterion: &mut Criterion) {
    // Word `step * thread % 128` of 128 words, `bytes` apart.
    let global = |step: u32, bytes: u32| {
        format!(
            ".reg .b64 %x, %y; .reg .b32 %r<4>;\n\
             mov.u32 %r1, %tid.x;\nmul.lo.u32 %r1, %r1, {step};\nand.b32 %r1, %r1, 127;\n\
             mul.wide.u32 %x, %r1, {bytes};\nmov.u64 %y, room;\ncvta.global.u64 %y, %y;\nadd.u64 %x, %x, %y;"
        )
    };
    let mma = "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%f0, %f1, %f2, %f3}, \
               {%r0, %r1, %r2, %r3}, {%r0, %r1}, {%f0, %f1, %f2, %f3};";
    let cases: [(&str, String, String); 9] = [
        ("integer", REGISTERS.to_owned(), straight(&INTEGER)),
        ("float", REGISTERS.to_owned(), straight(&FLOAT)),
        ("shared_memory", REGISTERS.to_owned(), straight(&MEMORY)),
        ("global_in_a_row", global(1, 4), global_accesses("u32")),
        ("global_scattered", global(37, 64), global_accesses("u32")),
        ("global_scattered_bytes", global(37, 61), global_accesses("u8")),
        ("mma_m16n8k16_bf16", REGISTERS.to_owned(), straight(&[mma])),
        ("wgmma_m64n128k32_e4m3", product_set_up(), product("e4m3.e4m3", 32)),
        ("wgmma_m64n128k16_bf16", product_set_up(), product("bf16.bf16", 16)),
    ];
    for (name, set_up, body) in cases {
        let text = looped(&set_up, &body);
        let count = |instructions| if name.starts_with("wgmma") { 400 } else { instructions };
        for (how, checks) in [("unchecked", Checks::NONE), ("checked", Checks::ALL)] {
            let launch = Launch { checks: Some(checks), ..launch(1, 128) };
            measure(criterion, &format!("checks/{name}/{how}"), &text, &launch, count);
        }
    }
}

/// PTX of at least `bytes` bytes: kernels of 512 instructions.
fn module(bytes: usize) -> String {
    let mut text = HEADER.to_owned();
    let mut number = 0;
    while text.len() < bytes {
        let body = straight(&INTEGER) + &straight(&FLOAT);
        write!(
            text,
            ".visible .entry kernel_{number}(.param .u64 p) {{\n.reg .b32 %r<6>, %f<6>;\n\
             .reg .b64 %x; .reg .pred %p;\nld.param.u64 %x, [p];\n$again:\nld.global.u32 %r0, [%x];\n\
             {body}setp.ne.u32 %p, %r4, 0;\n@%p bra $again;\nst.global.u32 [%x], %r0;\nret;\n}}\n"
        )
        .expect("a string takes what is written");
        number += 1;
    }
    text
}

fn load(criterion: &mut Criterion) {
    let text = module(1 << 20);
    criterion.bench_function("load/1_mib_of_ptx", |bencher| {
        bencher.iter(|| Program::load(&text).expect("the module loads"));
    });
}

criterion_group!(benches, instructions, products, checks, load);
criterion_main!(benches);
