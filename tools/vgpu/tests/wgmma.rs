//! `wgmma` of all types, widths and layouts.

mod support;

use support::wgmma::{CASE, Case};

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
