//! Random operands, and the traffic of a call.

use moekit::cost::Cost;
use moekit::num::{E4M3, bf16};
use moekit_testkit::rng::Rng;

/// Random values before they repeat.
const PATTERN_LEN: usize = 1 << 16;

pub fn moved(num_bytes: usize) -> Cost {
    Cost { hbm_bytes: num_bytes as u64, ..Cost::default() }
}

/// Normal values.
pub fn noise(len: usize) -> Vec<f32> {
    let mut rng = Rng::new(11);
    repeated(|| rng.normal() as f32, len)
}

pub fn noise_bf16(len: usize) -> Vec<bf16> {
    noise(len).into_iter().map(bf16::from_f32).collect()
}

/// Finite codes.
pub fn codes(len: usize) -> Vec<E4M3> {
    let mut rng = Rng::new(7);
    let code = |bits: u64| E4M3((bits as u8 & 0x80) | ((bits >> 8) as u8 % 0x7f));
    repeated(|| code(rng.next_u64()), len)
}

/// A random pattern, again and again.
fn repeated<T: Clone>(mut next: impl FnMut() -> T, len: usize) -> Vec<T> {
    let pattern: Vec<T> = (0..PATTERN_LEN.min(len)).map(|_| next()).collect();
    pattern.into_iter().cycle().take(len).collect()
}
