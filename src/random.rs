//! Seeded numbers that any rank can make for itself: each is a pure function of a seed and a position.
//!
//! Written here rather than taken from a library, because checkpoints and digests need numbers that no
//! library update can change.

use std::f64::consts::{PI, SQRT_2};
use std::sync::LazyLock;

const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// Mixes 64 bits so that every output bit depends on every input bit.
///
/// # Source
///
/// The finaliser of Vigna's `splitmix64.c`.
const fn mix(x: u64) -> u64 {
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// Derives the seed of part `part` of what `seed` stands for.
pub(crate) const fn derive(seed: u64, part: u64) -> u64 {
    mix(mix(seed.wrapping_add(GOLDEN)) ^ part)
}

/// Derives the seed of a named part.
pub(crate) fn derive_named(seed: u64, name: &[u8]) -> u64 {
    let mut hash = derive(seed, name.len() as u64);
    for chunk in name.chunks(8) {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        hash = derive(hash, u64::from_le_bytes(word));
    }
    hash
}

/// Normal numbers of mean 0 and standard deviation 1; number `idx` depends on `seed` and `idx` alone.
pub(crate) fn normals(seed: u64) -> impl Iterator<Item = f32> {
    let quantiles: &[f32] = &QUANTILES;
    (1u64..).flat_map(move |counter| {
        let bits = mix(seed.wrapping_add(counter.wrapping_mul(GOLDEN)));
        [0, 16, 32, 48].map(|shift| quantiles[(bits >> shift) as usize & 0xffff])
    })
}

/// Quantiles of the normal distribution at `(idx + 0.5) / 65536`, so that 16 random bits make one
/// number; the largest is 4.3.
static QUANTILES: LazyLock<Vec<f32>> = LazyLock::new(|| {
    let mut x = 0.0;
    let upper: Vec<f32> = (0..32768)
        .map(|idx| {
            x = solve_upper_tail((32767.5 - f64::from(idx)) / 65536.0, x);
            x as f32
        })
        .collect();
    upper.iter().rev().map(|x| -x).chain(upper.iter().copied()).collect()
});

/// Solves `erfc(x / sqrt 2) / 2 = tail` by Newton's method, from a start at or below the solution.
fn solve_upper_tail(tail: f64, start: f64) -> f64 {
    let mut x = start;
    // NOTE: the function is convex to the right of 0, so the steps grow monotonically to the solution;
    // the last gap takes 7.
    for _ in 0..16 {
        let density = libm::exp(-x * x / 2.0) / libm::sqrt(2.0 * PI);
        let step = (libm::erfc(x / SQRT_2) / 2.0 - tail) / density;
        x += step;
        if step.abs() < 1e-10 {
            break;
        }
    }
    x
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_the_normal_distribution() {
        // Tables of the normal distribution: 0.84134 at 1, 0.97725 at 2, 0.99865 at 3.
        for (x, probability) in [(1.0f32, 0.841_344_75), (2.0, 0.977_249_87), (3.0, 0.998_650_1)] {
            let idx = QUANTILES.partition_point(|&quantile| quantile < x);
            let got = idx as f64 / 65536.0;
            assert!((got - probability).abs() < 1.0 / 65536.0, "P(X < {x}) = {got}");
        }
        assert!(QUANTILES.is_sorted());
        assert_eq!(QUANTILES.len(), 65536);
        assert!(QUANTILES[65535] > 4.2 && QUANTILES[65535] < 4.4, "{}", QUANTILES[65535]);
    }

    #[test]
    fn numbers_have_mean_zero_and_variance_one() {
        let n = 1 << 18;
        let (mut sum, mut squares) = (0.0, 0.0);
        for x in normals(7).take(n).map(f64::from) {
            sum += x;
            squares += x * x;
        }
        let (mean, variance) = (sum / n as f64, squares / n as f64);
        assert!(mean.abs() < 0.01 && (variance - 1.0).abs() < 0.01, "{mean} {variance}");
    }

    #[test]
    fn the_bits_are_those_of_the_first_release() {
        // Recorded from this implementation: a change would change every generated checkpoint.
        assert_eq!(derive(1, 2), RECORDED_DERIVE);
        assert_eq!(derive_named(1, b"model.layers.0"), RECORDED_NAMED);
        let bits: Vec<u32> = normals(3).take(5).map(f32::to_bits).collect();
        assert_eq!(bits, RECORDED_NORMALS);
    }

    const RECORDED_DERIVE: u64 = 0x081a_5c13_7785_6b73;
    const RECORDED_NAMED: u64 = 0x5ded_1edd_320d_bf04;
    const RECORDED_NORMALS: [u32; 5] =
        [0x3e20_5a43, 0x3f87_b74b, 0xbfb2_78d5, 0xbf9a_ab25, 0x3ed6_55d1];

    #[test]
    fn names_that_differ_in_length_alone_have_different_seeds() {
        assert_ne!(derive_named(0, b"a"), derive_named(0, b"a\0"));
        assert_ne!(derive_named(0, b""), derive_named(0, b"\0"));
    }
}
