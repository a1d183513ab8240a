//! Values that show where a stage read what it must not, or wrote where it must not.
//!
//! Outputs, padding rows and unused pages are filled with poison before a call: a NaN that is read
//! spreads into the result, an index that is used runs out of every range, and what was never
//! written still holds the pattern afterwards.

use std::ops::Range;

use half::bf16;

use crate::compare::coordinates;
use crate::element::Element;

/// An element type with a recognisable value that no computation produces.
pub trait Poison: Element {
    /// The pattern.
    const POISON: Self;
}

impl Poison for f32 {
    const POISON: Self = f32::from_bits(0x7fc0_dead);
}

impl Poison for f64 {
    const POISON: Self = f64::from_bits(0x7ff8_0000_0000_dead);
}

impl Poison for bf16 {
    const POISON: Self = bf16::from_bits(0x7fde);
}

/// The NaN of E4M3. In UE8M0 scales use 255 and [`vec_of`].
impl Poison for u8 {
    const POISON: Self = crate::e4m3::NAN;
}

impl Poison for i32 {
    const POISON: Self = 2_147_480_000;
}

/// Makes a poisoned vector.
pub fn vec<T: Poison>(len: usize) -> Vec<T> {
    vec![T::POISON; len]
}

/// Makes a vector of another pattern, for bytes that are no E4M3 codes.
pub fn vec_of<T: Copy>(pattern: T, len: usize) -> Vec<T> {
    vec![pattern; len]
}

/// Poisons what a buffer holds.
pub fn fill<T: Poison>(buffer: &mut [T]) {
    buffer.fill(T::POISON);
}

/// Asserts that nothing in `range` of `buffer` was written.
#[track_caller]
pub fn assert_poisoned<T: Poison>(name: &str, shape: &[usize], buffer: &[T], range: Range<usize>) {
    let touched = range.clone().find(|&i| !buffer[i].same_bits(T::POISON));
    if let Some(i) = touched {
        panic!(
            "{name} {shape:?}: element {:?} was written, flat {i} of the untouchable {range:?}: {}",
            coordinates(shape, i),
            buffer[i].describe()
        );
    }
}

/// Asserts that everything in `range` of `buffer` was written.
#[track_caller]
pub fn assert_not_poisoned<T: Poison>(
    name: &str,
    shape: &[usize],
    buffer: &[T],
    range: Range<usize>,
) {
    let left = range.clone().find(|&i| buffer[i].same_bits(T::POISON));
    if let Some(i) = left {
        panic!(
            "{name} {shape:?}: element {:?} was never written, flat {i} of {range:?}",
            coordinates(shape, i)
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn float_poison_is_nan_and_integer_poison_is_out_of_range() {
        assert!(f32::POISON.is_nan() && f64::POISON.is_nan() && bf16::POISON.is_nan());
        assert!(crate::e4m3::decode(u8::POISON).is_nan());
        assert_eq!(i32::POISON, 2_147_480_000);
        assert_ne!(bf16::POISON.to_bits(), crate::bf16::NAN_BITS, "not what arithmetic yields");
    }

    #[test]
    fn untouched_poison_passes_and_written_values_pass() {
        let mut buffer = vec::<f32>(6);
        buffer[..3].fill(0.0);
        assert_poisoned("y", &[2, 3], &buffer, 3..6);
        assert_not_poisoned("y", &[2, 3], &buffer, 0..3);
        fill(&mut buffer);
        assert_poisoned("y", &[2, 3], &buffer, 0..6);
    }

    #[test]
    #[should_panic(
        expected = "y [2, 3]: element [1, 1] was written, flat 4 of the untouchable 3..6: NaN"
    )]
    fn another_nan_is_not_poison() {
        let mut buffer = vec::<f32>(6);
        buffer[4] = f32::NAN;
        assert_poisoned("y", &[2, 3], &buffer, 3..6);
    }

    #[test]
    #[should_panic(expected = "rows [4]: element [2] was never written")]
    fn a_gap_is_named() {
        let mut buffer = vec::<i32>(4);
        buffer[..2].fill(-1);
        assert_not_poisoned("rows", &[4], &buffer, 0..4);
    }
}
