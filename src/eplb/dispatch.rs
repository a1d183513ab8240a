//! Which replica a token goes to: a table that follows the split of a batch.

use super::{Placement, TokenSplit};
use crate::{Error, Result};

const OP: &str = "split_table";

/// Replica of each (logical expert, token) of one layer, periodic in `src_token_global_idx`.
///
/// `replica_idx = table[expert][src_token_global_idx % period]`.
///
/// # Numerics
///
/// Deterministic, and a function of the token alone: it does not depend on the order of arrival. Of
/// any `n <= period` consecutive tokens from a multiple of `period` on, a replica with fraction `f`
/// gets `f n` tokens to within less than one.
///
/// # Source
///
/// The sequence is R. Tijdeman's for the chairman assignment problem (Discrete Mathematics 32,
/// 1980).
///
/// # Examples
///
/// ```
/// use moekit::eplb::SplitTable;
///
/// let table = SplitTable::new(&[vec![0.75, 0.25], vec![1.0]], 8)?;
/// let replicas: Vec<_> = (0..8).map(|token| table.replica_idx(0, token)).collect();
/// assert_eq!(replicas.iter().filter(|&&r| r == Some(1)).count(), 2);
/// assert_eq!(table.replica_idx(1, 7), Some(0));
/// # Ok::<(), moekit::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SplitTable {
    period: usize,
    // start of each expert's entries; an expert with one replica has none
    starts: Vec<Option<usize>>,
    replica_idx: Vec<u16>,
}

impl SplitTable {
    /// Builds the table of one layer.
    ///
    /// # Shapes
    ///
    /// `fractions`: per logical expert its replicas' shares by `replica_idx`, each `>= 0`, summing
    /// to 1 within 1e-6; 1 to 65536 replicas.
    ///
    /// # Errors
    ///
    /// [`Error::Value`] unless `period >= 1` and the fractions are as above.
    pub fn new(fractions: &[Vec<f64>], period: usize) -> Result<Self> {
        if period == 0 {
            return Err(Error::value(OP, "period", "at least 1", period));
        }
        let mut table = Self { period, starts: Vec::new(), replica_idx: Vec::new() };
        for (expert_idx, shares) in fractions.iter().enumerate() {
            let valid = shares.iter().all(|&share| share >= 0.0)
                && (shares.iter().sum::<f64>() - 1.0).abs() <= 1e-6
                && shares.len() <= 1 << 16;
            if !valid {
                let got = format!("{shares:?} (expert {expert_idx})");
                let expected = "shares >= 0 that sum to 1, for at most 65536 replicas";
                return Err(Error::value(OP, "fractions", expected, got));
            }
            let start = (shares.len() > 1).then_some(table.replica_idx.len());
            table.starts.push(start);
            if start.is_some() {
                table.replica_idx.extend(sequence(shares, period));
            }
        }
        Ok(table)
    }

    /// Builds the table of one layer from a split.
    ///
    /// # Errors
    ///
    /// [`Error::Value`] if `period` is 0 or `layer_idx` is past the split's or the placement's
    /// layers.
    pub fn from_split(
        split: &TokenSplit,
        placement: &Placement,
        layer_idx: usize,
        period: usize,
    ) -> Result<Self> {
        let counts = placement.logical_count(layer_idx);
        let num_layers = placement.num_layers().min(split.num_layers());
        if layer_idx >= num_layers {
            let expected = format!("below num_layers = {num_layers}");
            return Err(Error::value(OP, "layer_idx", expected, layer_idx));
        }
        let shares = |(e, &count): (usize, &i32)| {
            split.fractions(layer_idx, e).iter().copied().take(count as usize).collect()
        };
        Self::new(&counts.iter().enumerate().map(shares).collect::<Vec<_>>(), period)
    }

    /// Returns the number of tokens after which the table repeats.
    pub fn period(&self) -> usize {
        self.period
    }

    /// Returns the replica for a token of an expert; `None` past the last expert.
    pub fn replica_idx(&self, expert_idx: usize, src_token_global_idx: u64) -> Option<usize> {
        let Some(start) = *self.starts.get(expert_idx)? else { return Some(0) };
        let offset = (src_token_global_idx % self.period as u64) as usize;
        Some(usize::from(self.replica_idx[start + offset]))
    }
}

/// Returns `period` replica numbers, every prefix as close to the shares as can be.
///
/// Of the replicas that may take token `n` without getting ahead by the bound, the one goes first
/// whose turn would otherwise be overdue first.
fn sequence(shares: &[f64], period: usize) -> impl Iterator<Item = u16> {
    let num_replicas = shares.len() as f64;
    // Tijdeman's bound on the distance from the share.
    let bound = 1.0 - 1.0 / (2.0 * num_replicas - 2.0);
    let mut taken = vec![0.0f64; shares.len()];
    (1..=period).map(move |n| {
        let n = n as f64;
        let behind = |r: usize| shares[r] * n - taken[r];
        let deadline = |r: usize| (bound - behind(r)) / shares[r];
        let eligible =
            (0..shares.len()).filter(|&r| shares[r] > 0.0 && behind(r) >= 1.0 - bound - 1e-9);
        let first = eligible.min_by(|&a, &b| deadline(a).total_cmp(&deadline(b)));
        let most_behind = || (0..shares.len()).max_by(|&a, &b| behind(a).total_cmp(&behind(b)));
        let replica = first.or_else(most_behind).unwrap_or(0);
        taken[replica] += 1.0;
        replica as u16
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_refuse_what_is_no_split() {
        let message = |shares: &[f64], period| {
            SplitTable::new(&[shares.to_vec()], period).expect_err("refused").to_string()
        };
        assert_eq!(message(&[1.0], 0), "split_table: `period` is 0, expected at least 1");
        let expected = "expected shares >= 0 that sum to 1, for at most 65536 replicas";
        assert_eq!(
            message(&[0.5, 0.4], 4),
            format!("split_table: `fractions` is [0.5, 0.4] (expert 0), {expected}")
        );
        assert!(message(&[1.5, -0.5], 4).contains("expert 0"));
        assert!(message(&[f64::NAN], 4).contains("expert 0"));
        assert!(message(&[], 4).contains("expert 0"));
    }
}
