//! Validated expert loads.

use crate::{Error, Result};

/// Tokens routed to every logical expert of every layer, checked once.
///
/// # Shapes
///
/// | name | dtype | shape | layout |
/// | --- | --- | --- | --- |
/// | `expert_load` | FP32 | `[num_layers, num_logical_experts]` | row-major, finite, >= 0 |
///
/// # Examples
///
/// ```
/// use moekit::eplb::ExpertLoad;
///
/// let load = ExpertLoad::new([[90, 132, 40], [20, 107, 104]])?;
/// assert_eq!(load.layer(1), [20.0, 107.0, 104.0]);
/// assert!(ExpertLoad::new([[1.0, f64::NAN]]).is_err());
/// # Ok::<(), moekit::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct ExpertLoad {
    values: Vec<f32>,
    num_logical_experts: usize,
}

impl ExpertLoad {
    /// Checks and stores `[num_layers, num_logical_experts]` loads, rounded to FP32.
    ///
    /// # Units
    ///
    /// Tokens, or anything proportional to them; estimates need not be whole.
    ///
    /// # Errors
    ///
    /// [`Error::Value`] if there is no layer or no expert, if rows differ in length, or if a value
    /// is NaN, negative, or not finite in FP32.
    pub fn new<R, C>(rows: R) -> Result<Self>
    where
        R: IntoIterator<Item = C>,
        C: IntoIterator<Item: Into<f64>>,
    {
        let mut values = Vec::new();
        let mut num_logical_experts = 0;
        let mut num_layers = 0;
        for (layer_idx, row) in rows.into_iter().enumerate() {
            let start = values.len();
            for (expert_idx, value) in row.into_iter().enumerate() {
                values.push(checked(value.into(), layer_idx, expert_idx)?);
            }
            let row_len = values.len() - start;
            if layer_idx == 0 {
                num_logical_experts = row_len;
            }
            if row_len != num_logical_experts {
                let expected = format!("{num_logical_experts} experts in every layer");
                return Err(refuse(expected, format!("{row_len} experts in layer {layer_idx}")));
            }
            num_layers += 1;
        }
        if num_layers == 0 || num_logical_experts == 0 {
            return Err(refuse(
                "at least one layer of at least one expert",
                format!("{num_layers} layers of {num_logical_experts} experts"),
            ));
        }
        Ok(Self { values, num_logical_experts })
    }

    /// Combines two loads of one shape, value by value.
    pub(super) fn zip_map(&self, other: &Self, f: impl Fn(f32, f32) -> f64) -> Result<Self> {
        let row = |(a, b): (&[f32], &[f32])| -> Vec<f64> {
            a.iter().zip(b).map(|(&a, &b)| f(a, b)).collect()
        };
        Self::new(self.layers().zip(other.layers()).map(row))
    }

    /// Returns the number of MoE layers, `num_layers`.
    pub fn num_layers(&self) -> usize {
        self.values.len() / self.num_logical_experts
    }

    /// Returns the number of logical experts of a layer.
    pub fn num_logical_experts(&self) -> usize {
        self.num_logical_experts
    }

    /// Returns one layer's loads: FP32 `[num_logical_experts]`; empty past the last layer.
    pub fn layer(&self, layer_idx: usize) -> &[f32] {
        self.layers().nth(layer_idx).unwrap_or_default()
    }

    /// Iterates over the layers: FP32 `[num_logical_experts]` each.
    pub fn layers(&self) -> impl ExactSizeIterator<Item = &[f32]> {
        self.values.chunks_exact(self.num_logical_experts)
    }
}

fn checked(value: f64, layer_idx: usize, expert_idx: usize) -> Result<f32> {
    let rounded = value as f32;
    if rounded.is_finite() && value >= 0.0 {
        // Adding zero turns -0.0 into 0.0.
        return Ok(rounded + 0.0);
    }
    Err(refuse(
        "finite FP32 values >= 0",
        format!("{value} (layer {layer_idx}, expert {expert_idx})"),
    ))
}

fn refuse(expected: impl ToString, got: impl ToString) -> Error {
    Error::value("expert_load", "load", expected, got)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(rows: &[&[f64]]) -> String {
        ExpertLoad::new(rows.iter().map(|row| row.iter().copied()))
            .expect_err("the load should be refused")
            .to_string()
    }

    #[test]
    fn every_kind_of_bad_load_is_refused_with_its_place() {
        let finite = "expert_load: `load` is";
        assert_eq!(
            message(&[&[1.0], &[f64::NAN]]),
            format!("{finite} NaN (layer 1, expert 0), expected finite FP32 values >= 0")
        );
        assert_eq!(
            message(&[&[1.0, -0.5]]),
            format!("{finite} -0.5 (layer 0, expert 1), expected finite FP32 values >= 0")
        );
        assert_eq!(
            message(&[&[f64::INFINITY]]),
            format!("{finite} inf (layer 0, expert 0), expected finite FP32 values >= 0")
        );
        assert!(message(&[&[1e39]]).contains("layer 0, expert 0"), "overflows FP32");
        assert_eq!(
            message(&[&[1.0, 2.0], &[1.0]]),
            format!("{finite} 1 experts in layer 1, expected 2 experts in every layer")
        );
        assert_eq!(
            message(&[]),
            format!(
                "{finite} 0 layers of 0 experts, \
                 expected at least one layer of at least one expert"
            )
        );
        assert!(message(&[&[]]).contains("1 layers of 0 experts"));
    }

    #[test]
    fn negative_zero_counts_as_zero() {
        let load = ExpertLoad::new([[-0.0]]).expect("-0.0 is a load of zero");
        assert_eq!(load.layer(0)[0].to_bits(), 0);
        assert!(load.layer(1).is_empty());
    }
}
