//! Elements that can be compared bit by bit and printed with their bits.

use half::bf16;

/// An element that can be compared bit by bit and printed with its bits.
pub trait Element: Copy {
    /// Says whether the bits are equal.
    fn same_bits(self, other: Self) -> bool;
    /// Says whether this is a NaN.
    fn is_nan(self) -> bool;
    /// Writes the value and, for floats, its bits.
    fn describe(self) -> String;
}

macro_rules! integer_element {
    ($($t:ty),*) => {$(
        impl Element for $t {
            fn same_bits(self, other: Self) -> bool {
                self == other
            }
            fn is_nan(self) -> bool {
                false
            }
            fn describe(self) -> String {
                self.to_string()
            }
        }
    )*};
}
integer_element!(u16, u32, u64, usize, i32, i64);

macro_rules! float_element {
    ($($t:ty),*) => {$(
        impl Element for $t {
            fn same_bits(self, other: Self) -> bool {
                self.to_bits() == other.to_bits()
            }
            fn is_nan(self) -> bool {
                <$t>::is_nan(self)
            }
            fn describe(self) -> String {
                format!("{self:e} ({:#x})", self.to_bits())
            }
        }
    )*};
}
float_element!(f32, f64, bf16);

impl Element for u8 {
    fn same_bits(self, other: Self) -> bool {
        self == other
    }
    fn is_nan(self) -> bool {
        false
    }
    fn describe(self) -> String {
        format!("{self:#04x}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_compared_and_shown() {
        assert!(1.5f32.same_bits(1.5) && !0.0f32.same_bits(-0.0));
        assert!(bf16::from_bits(0x7fc0).is_nan() && !0x7fu8.is_nan());
        assert_eq!(1.5f32.describe(), "1.5e0 (0x3fc00000)");
        assert_eq!(0x7fu8.describe(), "0x7f");
        assert_eq!((-1i32).describe(), "-1");
    }
}
