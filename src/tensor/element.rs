//! Which Rust type stands for which dtype.

use half::bf16;

use super::Dtype;
use crate::num::{E4M3, Ue8m0};

/// A Rust type that tensors hold; plain bytes, safe to copy between host and device.
pub trait Element: bytemuck::Pod + PartialEq + std::fmt::Debug + Send + Sync + 'static {
    /// The dtype that this type is the element of.
    const DTYPE: Dtype;
}

macro_rules! elements {
    ($($type:ty => $dtype:expr),* $(,)?) => {
        $(impl Element for $type { const DTYPE: Dtype = $dtype; })*
    };
}

elements! {
    E4M3 => Dtype::E4M3,
    Ue8m0 => Dtype::Ue8m0,
    bf16 => Dtype::Bf16,
    f32 => Dtype::F32,
    i32 => Dtype::I32,
    u8 => Dtype::U8,
}
