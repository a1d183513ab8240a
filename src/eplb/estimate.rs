//! Estimates of the load to come from the counts of past steps.

use std::collections::VecDeque;

use super::ExpertLoad;
use crate::{Error, Result};

const OP: &str = "load_estimator";

/// How past steps are weighed.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Estimator {
    /// `estimate = decay * estimate + (1 - decay) * counts`, `0 <= decay < 1`; starts at the first
    /// step's counts.
    Exponential {
        /// Weight of the past.
        decay: f64,
    },
    /// Mean of the last `window >= 1` steps.
    WindowedMean {
        /// Steps that count.
        window: usize,
    },
    /// Largest count of the last `window >= 1` steps, expert by expert.
    WindowedMax {
        /// Steps that count.
        window: usize,
    },
}

/// Estimates the load of every expert from the steps seen so far.
///
/// # Examples
///
/// ```
/// use moekit::eplb::{Estimator, ExpertLoad, LoadEstimator};
///
/// let mut estimator = LoadEstimator::new(Estimator::WindowedMean { window: 2 })?;
/// for counts in [[9, 9], [4, 0], [2, 6]] {
///     estimator.push(&ExpertLoad::new([counts])?)?;
/// }
/// let estimate = estimator.estimate().expect("three steps were seen");
/// assert_eq!(estimate.layer(0), [3.0, 3.0]);
/// # Ok::<(), moekit::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct LoadEstimator {
    kind: Estimator,
    // the last steps of a window; the running estimate alone if exponential
    steps: VecDeque<ExpertLoad>,
}

impl LoadEstimator {
    /// Starts with no step seen.
    ///
    /// # Errors
    ///
    /// [`Error::Value`] unless `0 <= decay < 1` or `window >= 1`.
    pub fn new(kind: Estimator) -> Result<Self> {
        match kind {
            Estimator::Exponential { decay } if !(0.0..1.0).contains(&decay) => {
                Err(Error::value(OP, "decay", "0 <= decay < 1", decay))
            }
            Estimator::WindowedMean { window: 0 } | Estimator::WindowedMax { window: 0 } => {
                Err(Error::value(OP, "window", "at least 1", 0))
            }
            _ => Ok(Self { kind, steps: VecDeque::new() }),
        }
    }

    /// Takes in the counts of one step.
    ///
    /// # Errors
    ///
    /// [`Error::Shape`] unless all steps have the same layers and experts.
    pub fn push(&mut self, counts: &ExpertLoad) -> Result<()> {
        if let Some(last) = self.steps.back() {
            let shape = |load: &ExpertLoad| vec![load.num_layers(), load.num_logical_experts()];
            if shape(last) != shape(counts) {
                let (expected, got) = (shape(last), shape(counts));
                return Err(Error::Shape { op: OP, arg: "counts", expected, got });
            }
        }
        match self.kind {
            Estimator::Exponential { decay } => {
                let mix =
                    |past: f32, now: f32| decay * f64::from(past) + (1.0 - decay) * f64::from(now);
                let next = match self.steps.pop_back() {
                    Some(past) => past.zip_map(counts, mix)?,
                    None => counts.clone(),
                };
                self.steps.push_back(next);
            }
            Estimator::WindowedMean { window } | Estimator::WindowedMax { window } => {
                self.steps.push_back(counts.clone());
                if self.steps.len() > window {
                    self.steps.pop_front();
                }
            }
        }
        Ok(())
    }

    /// Returns the estimate; `None` before the first step.
    pub fn estimate(&self) -> Option<ExpertLoad> {
        let first = self.steps.front()?;
        let num_steps = self.steps.len() as f64;
        let rows = (0..first.num_layers()).map(|layer_idx| {
            (0..first.num_logical_experts()).map(move |e| {
                let counts = self.steps.iter().map(|load| f64::from(load.layer(layer_idx)[e]));
                match self.kind {
                    Estimator::WindowedMax { .. } => counts.fold(0.0, f64::max),
                    _ => counts.sum::<f64>() / num_steps,
                }
            })
        });
        ExpertLoad::new(rows).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn estimate(kind: Estimator, steps: &[[u32; 2]]) -> Vec<f32> {
        let mut estimator = LoadEstimator::new(kind).expect("valid estimator");
        assert!(estimator.estimate().is_none(), "nothing was seen yet");
        for step in steps {
            estimator.push(&ExpertLoad::new([*step]).expect("load")).expect("same shape");
        }
        estimator.estimate().expect("steps were seen").layer(0).to_vec()
    }

    #[test]
    fn each_kind_weighs_the_past_as_it_says() {
        let steps = [[8, 0], [4, 4], [0, 2]];
        assert_eq!(estimate(Estimator::Exponential { decay: 0.5 }, &steps), [3.0, 2.0]);
        assert_eq!(estimate(Estimator::Exponential { decay: 0.0 }, &steps), [0.0, 2.0]);
        assert_eq!(estimate(Estimator::WindowedMean { window: 2 }, &steps), [2.0, 3.0]);
        assert_eq!(estimate(Estimator::WindowedMax { window: 2 }, &steps), [4.0, 4.0]);
        assert_eq!(estimate(Estimator::WindowedMax { window: 9 }, &steps), [8.0, 4.0]);
    }

    #[test]
    fn bad_settings_and_other_shapes_are_refused() {
        let message = |kind| LoadEstimator::new(kind).expect_err("refused").to_string();
        assert_eq!(
            message(Estimator::Exponential { decay: 1.0 }),
            "load_estimator: `decay` is 1, expected 0 <= decay < 1"
        );
        assert_eq!(
            message(Estimator::WindowedMean { window: 0 }),
            "load_estimator: `window` is 0, expected at least 1"
        );
        let mut estimator =
            LoadEstimator::new(Estimator::WindowedMax { window: 1 }).expect("estimator");
        estimator.push(&ExpertLoad::new([[1, 2]]).expect("load")).expect("first step");
        let error = estimator.push(&ExpertLoad::new([[1]]).expect("load")).expect_err("refused");
        assert_eq!(error.to_string(), "load_estimator: `counts` has shape [1, 1], expected [1, 2]");
    }
}
