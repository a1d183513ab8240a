//! A small seeded generator whose stream never changes.

use std::f64::consts::TAU;

/// SplitMix64: one 64-bit counter and a mixing function.
///
/// Written here rather than taken from `rand`, because recorded digests and golden data need a
/// stream that no library update can change. Every method is a pure function of the seed and of the
/// calls before it, with the same bits on every platform.
///
/// # Source
///
/// Steele, Lea, Flood, "Fast splittable pseudorandom number generators" (2014); constants of
/// Vigna's `splitmix64.c`.
#[derive(Debug, Clone)]
pub struct Rng {
    state: u64,
}

impl Rng {
    /// Starts the stream of `seed`.
    pub fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// Returns 64 random bits.
    pub fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Splits off an independent stream, so that one input's length does not shift the next input.
    pub fn fork(&mut self) -> Self {
        Self::new(self.next_u64())
    }

    /// Draws uniformly from `[0, 1)`, a multiple of 2^-53.
    pub fn uniform(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Draws an integer uniformly from `[0, bound)`.
    ///
    /// # Panics
    ///
    /// When `bound` is 0.
    pub fn below(&mut self, bound: usize) -> usize {
        assert!(bound > 0, "Rng::below: there is no integer in [0, 0)");
        ((self.next_u64() as u128 * bound as u128) >> 64) as usize
    }

    /// Draws from the normal distribution of mean 0 and standard deviation 1 (Box-Muller).
    pub fn normal(&mut self) -> f64 {
        let radius = libm::sqrt(-2.0 * libm::log(1.0 - self.uniform()));
        radius * libm::cos(TAU * self.uniform())
    }

    /// Draws `exp(mu + sigma * normal)`: positive, with a heavy upper tail.
    pub fn lognormal(&mut self, mu: f64, sigma: f64) -> f64 {
        libm::exp(mu + sigma * self.normal())
    }

    /// Draws from the standard Gumbel distribution.
    ///
    /// The k largest of `ln(p_i) + gumbel()` are a sample of k without replacement with weights
    /// `p`.
    pub fn gumbel(&mut self) -> f64 {
        let exponential = -libm::log(1.0 - self.uniform());
        -libm::log(exponential.max(f64::MIN_POSITIVE))
    }

    /// Draws a permutation of `0..len`, each equally likely (Fisher-Yates).
    pub fn permutation(&mut self, len: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..len).collect();
        for last in (1..len).rev() {
            order.swap(last, self.below(last + 1));
        }
        order
    }
}

/// The Zipf distribution over `0..n`: `P(i)` is proportional to `(i + 1)^-exponent`.
#[derive(Debug, Clone)]
pub struct Zipf {
    cumulative: Vec<f64>, // [n], last = 1
}

impl Zipf {
    /// Tabulates the distribution.
    ///
    /// # Panics
    ///
    /// When `n` is 0.
    pub fn new(n: usize, exponent: f64) -> Self {
        assert!(n > 0, "Zipf::new: a distribution over nothing");
        let mut sum = 0.0;
        let mut cumulative: Vec<f64> = (1..=n)
            .map(|rank| {
                sum += libm::pow(rank as f64, -exponent);
                sum
            })
            .collect();
        cumulative.iter_mut().for_each(|value| *value /= sum);
        Self { cumulative }
    }

    /// Draws one index.
    pub fn sample(&self, rng: &mut Rng) -> usize {
        let u = rng.uniform();
        self.cumulative.iter().position(|&edge| u < edge).unwrap_or(self.cumulative.len() - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stream_is_the_published_splitmix64() {
        // Vigna's splitmix64.c with seed 1234567, as listed on Rosetta Code ("Pseudo-random
        // numbers/Splitmix64").
        let mut rng = Rng::new(1_234_567);
        let got: Vec<u64> = (0..5).map(|_| rng.next_u64()).collect();
        assert_eq!(
            got,
            [
                6_457_827_717_110_365_317,
                3_203_168_211_198_807_973,
                9_817_491_932_198_370_423,
                4_593_380_528_125_082_431,
                16_408_922_859_458_223_821
            ]
        );
    }

    #[test]
    fn uniform_stays_below_one_and_fills_its_range() {
        let mut rng = Rng::new(1);
        let draws: Vec<f64> = (0..100_000).map(|_| rng.uniform()).collect();
        assert!(draws.iter().all(|&u| (0.0..1.0).contains(&u)));
        let mean = draws.iter().sum::<f64>() / draws.len() as f64;
        assert!((mean - 0.5).abs() < 0.01, "mean {mean}");
    }

    #[test]
    fn normal_has_mean_zero_and_variance_one() {
        let mut rng = Rng::new(2);
        let draws: Vec<f64> = (0..20_000).map(|_| rng.normal()).collect();
        let mean = draws.iter().sum::<f64>() / draws.len() as f64;
        let variance = draws.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / draws.len() as f64;
        assert!(mean.abs() < 0.03, "mean {mean}");
        assert!((variance - 1.0).abs() < 0.05, "variance {variance}");
        assert!(draws.iter().all(|x| x.is_finite()));
    }

    #[test]
    fn the_median_of_lognormal_is_exp_mu() {
        let mut rng = Rng::new(3);
        let mut draws: Vec<f64> = (0..10_001).map(|_| rng.lognormal(1.0, 2.0)).collect();
        draws.sort_by(f64::total_cmp);
        assert!(draws[0] > 0.0);
        assert!((draws[5_000].ln() - 1.0).abs() < 0.1, "median {}", draws[5_000]);
    }

    #[test]
    fn zipf_with_exponent_one_halves_from_the_first_to_the_second() {
        let mut rng = Rng::new(4);
        let zipf = Zipf::new(8, 1.0);
        let mut counts = [0usize; 8];
        (0..40_000).for_each(|_| counts[zipf.sample(&mut rng)] += 1);
        let ratio = counts[0] as f64 / counts[1] as f64;
        assert!((ratio - 2.0).abs() < 0.1, "counts {counts:?}");
        assert!(counts.windows(2).all(|pair| pair[0] > pair[1]), "counts {counts:?}");
    }

    #[test]
    fn a_permutation_holds_every_index_once() {
        let mut rng = Rng::new(5);
        for len in [0, 1, 2, 97] {
            let mut order = rng.permutation(len);
            order.sort_unstable();
            assert_eq!(order, (0..len).collect::<Vec<_>>());
        }
    }

    #[test]
    fn forks_do_not_repeat_their_parent() {
        let mut parent = Rng::new(6);
        let mut child = parent.fork();
        assert_ne!(
            (0..8).map(|_| child.next_u64()).collect::<Vec<_>>(),
            (0..8).map(|_| parent.next_u64()).collect::<Vec<_>>()
        );
    }
}
