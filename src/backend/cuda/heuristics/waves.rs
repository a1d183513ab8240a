//! Tiles of a launch, and the waves in which the SMs take them.

use super::config::{Cluster, GemmConfig};
use crate::gemm::GemmShape;
use crate::num::ceil_div;

/// How many tiles a launch has: the numbers that are possible, with their probabilities.
///
/// Where groups' rows vary, each group has one deviation fewer rows than the mean in a quarter of cases, and one more
/// in another: a tile as high as the mean needs a second one for many groups, and some groups are empty. A group never
/// has more rows than there is room for.
#[derive(Debug)]
pub struct Tiles {
    /// Numbers of tiles with their probabilities.
    cases: Vec<(f64, f64)>,
}

/// Groups whose cases are counted one by one. The sum of more is taken as three cases of the same mean and deviation.
const MAX_COUNTED: usize = 8;

impl Tiles {
    pub fn new(shape: &GemmShape, config: &GemmConfig) -> Self {
        let num_n_blocks = ceil_div(shape.n, config.tile.block_n);
        let num_n_blocks = paired(num_n_blocks, config.cluster == Cluster::AlongN);
        let num_m_blocks = |rows: usize| {
            let rows = shape.max_m.map_or(rows, |max_m| rows.min(max_m));
            paired(ceil_div(rows, config.tile.block_m), config.cluster == Cluster::AlongM)
        };
        let (mean, deviation) = (shape.m, shape.m_deviation);
        let [few, usual, many] =
            [mean.saturating_sub(deviation), mean, mean + deviation].map(num_m_blocks);
        let per_m_block = (num_n_blocks * config.split_k) as f64;
        let least = (shape.num_groups * few) as f64;
        let cases = if shape.num_groups <= MAX_COUNTED {
            counted(shape.num_groups, usual - few, many - few)
        } else {
            three(shape.num_groups, usual - few, many - few)
        };
        let cases = cases.into_iter().map(|(more, p)| ((least + more) * per_m_block, p));
        Self { cases: cases.collect() }
    }

    /// Tiles on average.
    pub fn mean(&self) -> f64 {
        self.cases.iter().map(|(num_tiles, p)| p * num_tiles).sum()
    }

    /// Rounds on average in which each of `num_sms` has one tile at most.
    pub fn num_waves(&self, num_sms: usize) -> f64 {
        self.cases
            .iter()
            .map(|(num_tiles, p)| p * (num_tiles.round() / num_sms as f64).ceil())
            .sum()
    }
}

fn paired(num_blocks: usize, is_paired: bool) -> usize {
    if is_paired { num_blocks.next_multiple_of(2) } else { num_blocks }
}

/// The shares of cases in which a group has the fewest blocks along M, those of the mean, and the most.
const SHARES: [f64; 3] = [0.25, 0.5, 0.25];

/// The sums of as many numbers as there are groups, each 0, `usual` or `most`, with their probabilities.
fn counted(num_groups: usize, usual: usize, most: usize) -> Vec<(f64, f64)> {
    let num_groups = if most == 0 { 0 } else { num_groups };
    let mut probabilities = vec![0.0; num_groups * most + 1];
    probabilities[0] = 1.0;
    for group in 0..num_groups {
        // From above, so that each is still without this group when its turn comes.
        for sum in (0..=group * most).rev() {
            let before = std::mem::take(&mut probabilities[sum]);
            for (step, share) in [0, usual, most].into_iter().zip(SHARES) {
                probabilities[sum + step] += share * before;
            }
        }
    }
    probabilities.into_iter().enumerate().map(|(sum, p)| (sum as f64, p)).collect()
}

/// The mean of such sums, and as far to both sides that their deviation is the sums'.
fn three(num_groups: usize, usual: usize, most: usize) -> Vec<(f64, f64)> {
    let average = |what: fn(f64) -> f64| -> f64 {
        [0, usual, most].into_iter().zip(SHARES).map(|(x, share)| share * what(x as f64)).sum()
    };
    let (mean, square) = (average(|x| x), average(|x| x * x));
    let (mean, variance) = (num_groups as f64 * mean, num_groups as f64 * (square - mean * mean));
    let away = (2.0 * variance).sqrt();
    [mean - away, mean, mean + away].into_iter().zip(SHARES).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::cuda::heuristics::{ChooseOptions, choose};
    use crate::cost::DeviceSpec;
    use crate::gemm::GemmKind;

    fn tiles(shape: GemmShape) -> Tiles {
        let choice = choose(&shape, &DeviceSpec::H100_SXM, &ChooseOptions::default());
        let one = choice.expect("a choice").config;
        let tile = super::super::GemmTile { block_m: 128, block_n: 128, swap_ab: false };
        Tiles::new(&shape, &GemmConfig { tile, cluster: Cluster::Single, ..one })
    }

    #[test]
    fn sums_of_few_are_those_counted_by_hand() {
        assert_eq!(counted(2, 0, 1), [(0.0, 0.5625), (1.0, 0.375), (2.0, 0.0625)]);
        assert_eq!(counted(1, 1, 3), [(0.0, 0.25), (1.0, 0.5), (2.0, 0.0), (3.0, 0.25)]);
        assert_eq!(counted(7, 0, 0), [(0.0, 1.0)]);
    }

    #[test]
    fn three_cases_have_the_mean_and_the_variance_of_all() {
        let moments = |cases: Vec<(f64, f64)>| {
            let mean: f64 = cases.iter().map(|(x, p)| p * x).sum();
            (mean, cases.iter().map(|(x, p)| p * (x - mean).powi(2)).sum::<f64>())
        };
        for (num_groups, usual, most) in [(9, 0, 1), (20, 1, 2), (64, 2, 3), (3, 0, 0)] {
            let (counted, three) = (
                moments(counted(num_groups, usual, most)),
                moments(three(num_groups, usual, most)),
            );
            assert!((counted.0 - three.0).abs() < 1e-9, "{counted:?} {three:?}");
            assert!((counted.1 - three.1).abs() < 1e-9, "{counted:?} {three:?}");
        }
    }

    #[test]
    fn groups_that_vary_take_a_wave_more_in_the_cases_in_which_they_have_more_tiles() {
        // Two groups of 4 or, in a quarter of cases, 5 blocks along M, and 32 along N: 256, 288 or 320 tiles.
        let shape =
            GemmShape { num_groups: 2, ..GemmShape::new(GemmKind::Masked, 512, 4096, 7168) };
        let vary = tiles(shape);
        assert_eq!(vary.mean(), 0.5625 * 256.0 + 0.375 * 288.0 + 0.0625 * 320.0);
        assert_eq!(vary.num_waves(132), 0.5625 * 2.0 + 0.4375 * 3.0);
        let full = tiles(GemmShape { max_m: Some(512), ..shape });
        assert_eq!((full.mean(), full.num_waves(132)), (256.0, 2.0));
    }
}
