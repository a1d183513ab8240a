//! Every row of `tests/ops/*.txt`: the instruction is run by a kernel made for it, one case a thread.

mod support;

use support::Gpu;
use support::ops::differences;

fn run(text: &str) {
    let failures = differences(text, |ptx, num_threads, inputs| {
        let gpu = Gpu::new(ptx);
        let input = gpu.upload(inputs);
        let output = gpu.upload(&vec![0xdead_beef_dead_beefu64; num_threads]);
        gpu.run("k", 1, num_threads as u32, &[input, output]);
        Ok(gpu.download(output, num_threads))
    });
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn integer_arithmetic() {
    run(include_str!("ops/integer.txt"));
}

#[test]
fn logic_shifts_and_fields() {
    run(include_str!("ops/bits.txt"));
}

#[test]
fn float_arithmetic() {
    run(include_str!("ops/float.txt"));
}

/// Of architectures behind sm_90a.
#[test]
fn later_instructions() {
    run(include_str!("ops/later.txt"));
}

/// NaN, infinities, zeros, subnormals, saturation.
#[test]
fn corners() {
    run(include_str!("ops/corners.txt"));
}

#[test]
fn comparisons() {
    run(include_str!("ops/compare.txt"));
}

#[test]
fn conversions() {
    run(include_str!("ops/convert.txt"));
}
