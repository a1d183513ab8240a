//! Approximate instructions: their ranges, what they stand for, and how far results are from that.

/// An instruction, and the range that it is measured over.
pub struct Approximate {
    pub instruction: &'static str,
    pub range: [f32; 2],
    exact: fn(f64) -> f64,
    /// How far an H200 is off, over 2^24 numbers of the range, rounded up.
    pub on_h200: Error,
}

/// The largest error.
#[derive(Clone, Copy, Debug)]
pub enum Error {
    /// In units of the last place of the exact result.
    Ulps(f64),
    Absolute(f64),
}

const fn row(
    instruction: &'static str,
    range: [f32; 2],
    exact: fn(f64) -> f64,
    on_h200: Error,
) -> Approximate {
    Approximate { instruction, range, exact, on_h200 }
}

pub const ALL: [Approximate; 8] = [
    row("ex2.approx.f32", [-100.0, 100.0], f64::exp2, Error::Ulps(2.1)),
    row("lg2.approx.f32", [1e-3, 1e4], f64::log2, Error::Absolute(1.2e-6)),
    row("rcp.approx.f32", [1e-3, 1e4], f64::recip, Error::Ulps(0.98)),
    row("sqrt.approx.f32", [0.0, 1e6], f64::sqrt, Error::Ulps(0.95)),
    row("rsqrt.approx.f32", [1e-3, 1e4], |x| 1.0 / x.sqrt(), Error::Ulps(1.52)),
    row("sin.approx.f32", [-3.0, 3.0], f64::sin, Error::Absolute(3.5e-7)),
    row("cos.approx.f32", [-3.0, 3.0], f64::cos, Error::Absolute(4.0e-7)),
    row("tanh.approx.f32", [-9.0, 9.0], f64::tanh, Error::Ulps(134.0)),
];

/// Numbers that each is tried with; blocks of 1024 threads take one each.
pub const NUM: usize = 1 << 16;

impl Approximate {
    /// A kernel `k` that takes the addresses of the numbers and the results.
    pub fn kernel(&self) -> String {
        format!(
            ".version 8.7\n.target sm_90a\n.address_size 64\n\
             .entry k(.param .u64 pa, .param .u64 pb) {{ .reg .b64 %a, %b, %o; .reg .b32 %i, %n, %c;\n\
             .reg .f32 %x; ld.param.u64 %a, [pa];\nld.param.u64 %b, [pb];\nmov.u32 %i, %tid.x;\n\
             mov.u32 %n, %ntid.x;\nmov.u32 %c, %ctaid.x;\nmad.lo.u32 %i, %c, %n, %i;\n\
             mul.wide.u32 %o, %i, 4;\nadd.u64 %a, %a, %o;\nadd.u64 %b, %b, %o;\n\
             ld.global.f32 %x, [%a];\n{} %x, %x;\nst.global.f32 [%b], %x;\nret; }}\n",
            self.instruction
        )
    }

    pub fn numbers(&self) -> Vec<f32> {
        let [low, high] = self.range;
        // Irrational steps: no two numbers have the same lower bits.
        let part = |at: usize| (at as f64 * 0.618_033_988_749_895).fract();
        (0..NUM).map(|at| (f64::from(low) + part(at) * f64::from(high - low)) as f32).collect()
    }

    /// The largest errors of results: in units of the last place, and absolute.
    pub fn errors(&self, numbers: &[f32], results: &[f32]) -> [f64; 2] {
        let errors = numbers.iter().zip(results).map(|(x, got)| {
            let exact = (self.exact)((*x).into());
            let ulp = f64::from((exact as f32).abs().next_up()) - f64::from((exact as f32).abs());
            let error = (f64::from(*got) - exact).abs();
            [error / ulp, error]
        });
        errors.fold([0.0; 2], |[x, y], [ulps, error]| [ulps.max(x), error.max(y)])
    }
}
