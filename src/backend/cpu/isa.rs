//! One body of code, compiled once per SIMD level.

use super::SimdLevel;

/// A SIMD level as a type, so that a body can choose intrinsics at compile time.
pub(super) trait Isa {
    const LEVEL: SimdLevel;
}

struct Portable;
#[cfg(target_arch = "x86_64")]
struct Avx2;
#[cfg(target_arch = "x86_64")]
struct Avx512;

impl Isa for Portable {
    const LEVEL: SimdLevel = SimdLevel::Portable;
}

#[cfg(target_arch = "x86_64")]
impl Isa for Avx2 {
    const LEVEL: SimdLevel = SimdLevel::Avx2;
}

#[cfg(target_arch = "x86_64")]
impl Isa for Avx512 {
    const LEVEL: SimdLevel = SimdLevel::Avx512;
}

/// A body to compile per level. `run` and all that it calls in its loops must be `#[inline(always)]`:
/// only what is inlined into the level's entry point is compiled with the level's instructions.
///
/// Floating-point results do not depend on the level: Rust neither reassociates nor contracts.
pub(super) trait Kernel {
    fn run<I: Isa>(self);
}

impl SimdLevel {
    /// Runs `kernel` with this level's instructions.
    pub(super) fn run(self, kernel: impl Kernel) {
        match self {
            // SAFETY: `Cpu` takes only levels that `detect` found on this processor.
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => unsafe { run_avx512(kernel) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => unsafe { run_avx2(kernel) },
            _ => kernel.run::<Portable>(),
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c")]
fn run_avx2(kernel: impl Kernel) {
    kernel.run::<Avx2>();
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vnni")]
fn run_avx512(kernel: impl Kernel) {
    kernel.run::<Avx512>();
}
