//! The element types that results come in, widened to f64 exactly.

use half::bf16;

/// A floating-point element that widens to f64 without rounding.
pub trait Real: Copy {
    /// Returns the same value in f64.
    fn widen(self) -> f64;
}

impl Real for f64 {
    fn widen(self) -> f64 {
        self
    }
}

impl Real for f32 {
    fn widen(self) -> f64 {
        f64::from(self)
    }
}

impl Real for bf16 {
    fn widen(self) -> f64 {
        f64::from(crate::bf16::widen(self))
    }
}
