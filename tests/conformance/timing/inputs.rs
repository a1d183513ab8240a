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

/// Codes as quantising normal activations gives them. Their bits decide what power a product takes, and so its clock.
pub fn codes(len: usize) -> Vec<E4M3> {
    let blocks = noise(PATTERN_LEN);
    let mut codes = blocks.as_chunks::<128>().0.iter().flat_map(|block| {
        let amax = block.iter().fold(0.0, |amax: f32, value| amax.max(value.abs()));
        block.map(|value| E4M3::from_f32(value * (448.0 / amax)))
    });
    repeated(|| codes.next().unwrap_or_default(), len)
}

/// A random pattern, again and again.
fn repeated<T: Clone>(mut next: impl FnMut() -> T, len: usize) -> Vec<T> {
    let pattern: Vec<T> = (0..PATTERN_LEN.min(len)).map(|_| next()).collect();
    pattern.into_iter().cycle().take(len).collect()
}
