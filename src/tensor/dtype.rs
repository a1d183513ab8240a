//! The element types that tensors and files hold.

use std::fmt;

/// Element type of a tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Dtype {
    /// 8-bit float, 4 exponent and 3 mantissa bits, no infinity, largest value 448.
    E4M3,
    /// 8-bit unsigned exponent: `2^(code - 127)`, 255 = NaN.
    Ue8m0,
    /// bfloat16.
    Bf16,
    /// IEEE binary32.
    F32,
    /// Signed 32-bit integer.
    I32,
    /// Unsigned byte.
    U8,
}

impl Dtype {
    /// Size of one element in bytes.
    pub const fn size_bytes(self) -> usize {
        match self {
            Self::E4M3 | Self::Ue8m0 | Self::U8 => 1,
            Self::Bf16 => 2,
            Self::F32 | Self::I32 => 4,
        }
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::E4M3 => "E4M3",
            Self::Ue8m0 => "UE8M0",
            Self::Bf16 => "BF16",
            Self::F32 => "FP32",
            Self::I32 => "INT32",
            Self::U8 => "UINT8",
        })
    }
}
