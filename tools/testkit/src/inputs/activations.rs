//! Activations and weights.

use crate::rng::Rng;

/// Draws `len` values of mean 0 and this standard deviation.
pub fn normal(rng: &mut Rng, len: usize, standard_deviation: f64) -> Vec<f32> {
    (0..len).map(|_| (standard_deviation * rng.normal()) as f32).collect()
}

/// Draws `len` values of lognormal magnitude (median 1) and random sign.
///
/// With `sigma = 3` the magnitudes of a 128-block span some four decades, more than E4M3 holds.
pub fn lognormal(rng: &mut Rng, len: usize, sigma: f64) -> Vec<f32> {
    let mut signed =
        || if rng.below(2) == 0 { rng.lognormal(0.0, sigma) } else { -rng.lognormal(0.0, sigma) };
    (0..len).map(|_| signed() as f32).collect()
}

/// Draws a weight matrix `[n, k]` with standard deviation `k^-0.5`, so that products keep the
/// input's scale.
pub fn weights(rng: &mut Rng, [n, k]: [usize; 2]) -> Vec<f32> {
    normal(rng, n * k, 1.0 / libm::sqrt(k as f64))
}

/// Draws activations `[num_tokens, hidden]` of which a few columns are `factor` times larger.
///
/// Trained models have such columns; they set the scale of their 128-block and press the others
/// towards zero. Returns the activations and the outlier columns, ascending.
pub fn with_outlier_columns(
    rng: &mut Rng,
    [num_tokens, hidden]: [usize; 2],
    num_outliers: usize,
    factor: f32,
) -> (Vec<f32>, Vec<usize>) {
    let mut x = normal(rng, num_tokens * hidden, 1.0);
    let mut columns = rng.permutation(hidden);
    columns.truncate(num_outliers);
    columns.sort_unstable();
    for token in x.chunks_mut(hidden.max(1)) {
        columns.iter().for_each(|&column| token[column] *= factor);
    }
    (x, columns)
}

/// Sets whole rows to zero.
pub fn zero_rows(x: &mut [f32], num_columns: usize, rows: impl IntoIterator<Item = usize>) {
    for row in rows {
        x[row * num_columns..][..num_columns].fill(0.0);
    }
}

/// Overwrites `count` random elements with `value` (a NaN, an infinity); returns their indices,
/// ascending.
pub fn sprinkle(rng: &mut Rng, x: &mut [f32], count: usize, value: f32) -> Vec<usize> {
    let mut places = rng.permutation(x.len());
    places.truncate(count);
    places.sort_unstable();
    places.iter().for_each(|&place| x[place] = value);
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_bits() {
        let draw = |seed| normal(&mut Rng::new(seed), 64, 1.0);
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
    }

    #[test]
    fn inputs_are_pinned_across_platforms() {
        // SplitMix64 and Box-Muller computed apart, with Python's math module. Recorded digests
        // rest on these bits.
        let x = normal(&mut Rng::new(42), 3, 1.0);
        let bits: Vec<u32> = x.iter().map(|x| x.to_bits()).collect();
        assert_eq!(bits, [0x3f61_db10, 0xbee6_d5cb, 0x3e40_df83]);
    }

    #[test]
    fn weights_keep_the_scale_of_a_product() {
        let (n, k) = (8, 1024);
        let w = weights(&mut Rng::new(1), [n, k]);
        let norm = w.iter().map(|&w| f64::from(w).powi(2)).sum::<f64>() / n as f64;
        assert!((norm - 1.0).abs() < 0.1, "a row's squared norm is about 1, not {norm}");
    }

    #[test]
    fn outlier_columns_stand_out() {
        let (x, columns) = with_outlier_columns(&mut Rng::new(3), [64, 32], 2, 100.0);
        assert_eq!(columns.len(), 2);
        let rms = |column: usize| {
            (x.chunks(32).map(|row| f64::from(row[column]).powi(2)).sum::<f64>() / 64.0).sqrt()
        };
        for column in 0..32 {
            assert_eq!(rms(column) > 50.0, columns.contains(&column), "column {column}");
        }
    }

    #[test]
    fn lognormal_values_take_both_signs_and_are_never_zero() {
        let x = lognormal(&mut Rng::new(4), 1000, 3.0);
        let negative = x.iter().filter(|&&x| x < 0.0).count();
        assert!((400..600).contains(&negative), "{negative} negative");
        assert!(x.iter().all(|&x| x != 0.0 && x.is_finite()));
    }

    #[test]
    fn rows_are_zeroed_and_values_sprinkled_where_said() {
        let mut x = vec![1.0f32; 12];
        zero_rows(&mut x, 4, [1]);
        assert_eq!(x[4..8], [0.0; 4]);
        assert_eq!(x.iter().filter(|&&x| x == 0.0).count(), 4);
        let places = sprinkle(&mut Rng::new(5), &mut x, 3, f32::NAN);
        let found: Vec<usize> = (0..12).filter(|&i| x[i].is_nan()).collect();
        assert_eq!((places.len(), &found), (3, &places));
    }
}
