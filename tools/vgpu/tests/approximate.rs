//! Approximate instructions: how far they are from the exact result. Hardware may be further off, as far
//! as the PTX ISA says; a kernel that needs a certain result must not use them.

mod support;

use support::Gpu;

const NUM: usize = 1 << 16;

/// The largest error in units of the last place, over numbers between `low` and `high`.
fn worst(instruction: &str, low: f32, high: f32, exact: impl Fn(f64) -> f64) -> f64 {
    let gpu = Gpu::new(&format!(
        ".version 8.7\n.target sm_90a\n.address_size 64\n\
         .entry k(.param .u64 pa, .param .u64 pb) {{ .reg .b64 %a, %b, %o; .reg .b32 %i, %n, %c;\n\
         .reg .f32 %x; ld.param.u64 %a, [pa];\nld.param.u64 %b, [pb];\nmov.u32 %i, %tid.x;\n\
         mov.u32 %n, %ntid.x;\nmov.u32 %c, %ctaid.x;\nmad.lo.u32 %i, %c, %n, %i;\n\
         mul.wide.u32 %o, %i, 4;\nadd.u64 %a, %a, %o;\nadd.u64 %b, %b, %o;\n\
         ld.global.f32 %x, [%a];\n{instruction} %x, %x;\nst.global.f32 [%b], %x;\nret; }}\n"
    ));
    // Irrational steps: no two numbers have the same lower bits.
    let part = |at: usize| (at as f64 * 0.618_033_988_749_895).fract();
    let number = |at: usize| (f64::from(low) + part(at) * f64::from(high - low)) as f32;
    let input: Vec<f32> = (0..NUM).map(number).collect();
    let (a, b) = (gpu.upload(&input), gpu.upload(&vec![0f32; NUM]));
    gpu.run("k", NUM as u32 / 1024, 1024, &[a, b]);
    let got = gpu.download::<f32>(b, NUM);
    let error = |(x, got): (&f32, &f32)| {
        let exact = exact((*x).into());
        let ulp = f64::from((exact as f32).abs().next_up()) - f64::from((exact as f32).abs());
        (f64::from(*got) - exact).abs() / ulp
    };
    input.iter().zip(&got).map(error).fold(0.0, f64::max)
}

#[test]
fn they_are_as_exact_as_one_rounding() {
    let measured = [
        ("ex2.approx.f32", worst("ex2.approx.f32", -100.0, 100.0, f64::exp2)),
        ("lg2.approx.f32", worst("lg2.approx.f32", 1e-3, 1e4, f64::log2)),
        ("rcp.approx.f32", worst("rcp.approx.f32", 1e-3, 1e4, f64::recip)),
        ("sqrt.approx.f32", worst("sqrt.approx.f32", 0.0, 1e6, f64::sqrt)),
        ("rsqrt.approx.f32", worst("rsqrt.approx.f32", 1e-3, 1e4, |x| 1.0 / x.sqrt())),
        ("sin.approx.f32", worst("sin.approx.f32", -3.0, 3.0, f64::sin)),
        ("cos.approx.f32", worst("cos.approx.f32", -3.0, 3.0, f64::cos)),
        ("tanh.approx.f32", worst("tanh.approx.f32", -9.0, 9.0, f64::tanh)),
    ];
    for (instruction, ulps) in measured {
        println!("{instruction}: {ulps:.4} ulp");
        assert!(ulps <= 0.5001, "{instruction}: {ulps} units of the last place");
        assert!(ulps > 0.4, "{instruction}: {ulps}, so the numbers are not hard enough");
    }
}
