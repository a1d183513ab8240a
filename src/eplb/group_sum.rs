//! The FP32 sum over an expert group, in the order that the reference's runtime uses.

/// Lanes of a vector, and vectors added side by side.
const NUM_LANES: usize = 8;
const NUM_WAYS: usize = 4;
/// Levels of the cascade that keeps long sums accurate.
const NUM_LEVELS: usize = 4;

/// Adds a group's loads in FP32.
///
/// # Numerics
///
/// A group sum decides which node a group goes to, so that two sums that are equal but for rounding
/// must round as the reference's: 8 lanes by 4 ways from 8 values on, 1 lane by 4 ways below, in
/// blocks that cascade every 16 steps or more; then the remainder, then the lanes, in order. Whole
/// token counts below 2^24 are exact in any order.
///
/// # Source
///
/// PyTorch 2.6 `sum` over a contiguous innermost dimension on x86-64 (`SumKernel.cpp`), as observed.
pub(super) fn group_sum(values: &[f32]) -> f32 {
    if values.len() < NUM_LANES {
        return cascade::<1>(values)[0];
    }
    let num_vector_values = values.len() / NUM_LANES * NUM_LANES;
    let (vectors, rest) = values.split_at(num_vector_values);
    let lanes = cascade::<NUM_LANES>(vectors);
    let rest = rest.iter().fold(0.0, |sum, value| sum + value);
    lanes.iter().fold(rest, |sum, lane| sum + lane)
}

/// Adds vectors of `LANES` values, `NUM_WAYS` vectors a step.
fn cascade<const LANES: usize>(values: &[f32]) -> [f32; LANES] {
    let num_steps = values.len() / LANES / NUM_WAYS;
    let log2_ceil = num_steps.max(1).next_power_of_two().trailing_zeros() as usize;
    let level_power = (log2_ceil / NUM_LEVELS).max(4);
    let level_mask = (1 << level_power) - 1;

    let mut acc = [[[0.0f32; LANES]; NUM_WAYS]; NUM_LEVELS];
    let mut steps = values.chunks_exact(LANES * NUM_WAYS);
    for (step_idx, step) in steps.by_ref().enumerate() {
        for (acc, vector) in acc[0].iter_mut().zip(step.chunks_exact(LANES)) {
            add(acc, vector);
        }
        let num_done = step_idx + 1;
        for level in 1..NUM_LEVELS {
            // A level passes its sum up whenever the digits of the step count below it are zero.
            if num_done & (level_mask << ((level - 1) * level_power)) != 0 {
                break;
            }
            let below = std::mem::replace(&mut acc[level - 1], [[0.0; LANES]; NUM_WAYS]);
            acc[level].iter_mut().zip(&below).for_each(|(acc, below)| add(acc, below));
        }
    }
    let [mut ways, upper @ ..] = acc;
    for level in &upper {
        ways.iter_mut().zip(level).for_each(|(acc, level)| add(acc, level));
    }
    let [mut sum, others @ ..] = ways;
    for vector in steps.remainder().chunks_exact(LANES) {
        add(&mut sum, vector);
    }
    others.iter().for_each(|way| add(&mut sum, way));
    sum
}

fn add<const LANES: usize>(acc: &mut [f32; LANES], values: &[f32]) {
    acc.iter_mut().zip(values).for_each(|(acc, value)| *acc += value);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers_sum_exactly_at_any_length() {
        for len in [0, 1, 5, 7, 8, 31, 33, 511, 512, 600, 4096, 20_000] {
            let values: Vec<f32> = (0..len).map(|i| (i % 7) as f32).collect();
            let exact: u32 = (0..len).map(|i| i % 7).sum();
            assert_eq!(group_sum(&values), exact as f32, "{len} values");
        }
    }
}
