//! Approximate instructions: how far they are from the exact result. Hardware is further off; a kernel
//! that needs a certain result must not use them.

mod support;

use support::Gpu;
use support::approximate::{ALL, Approximate, NUM};

/// The largest error in units of the last place.
fn worst(approximate: &Approximate) -> f64 {
    let gpu = Gpu::new(&approximate.kernel());
    let numbers = approximate.numbers();
    let (a, b) = (gpu.upload(&numbers), gpu.upload(&vec![0f32; NUM]));
    gpu.run("k", NUM as u32 / 1024, 1024, &[a, b]);
    approximate.errors(&numbers, &gpu.download::<f32>(b, NUM))[0]
}

#[test]
fn they_are_as_exact_as_one_rounding() {
    for approximate in &ALL {
        let (instruction, ulps) = (approximate.instruction, worst(approximate));
        println!("{instruction}: {ulps:.4} ulp");
        assert!(ulps <= 0.5001, "{instruction}: {ulps} units of the last place");
        assert!(ulps > 0.4, "{instruction}: {ulps}, so the numbers are not hard enough");
    }
}
