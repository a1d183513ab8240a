//! Logical experts (the router's) and the physical replicas that ranks hold.

use crate::error::{Error, Result};
use crate::tensor::check;

const OP: &str = "expert map";

/// Which physical experts are replicas of which logical expert.
///
/// A token's replica is `src_token_global_idx % logical_count`, so the choice needs no agreement
/// between ranks and spreads tokens evenly.
///
/// # Examples
///
/// ```
/// use moekit::moe::ExpertMap;
/// // Logical expert 1 has two replicas: physical experts 1 and 3.
/// let map = ExpertMap::new(&[0, 1, 2, 1], 3)?;
/// assert_eq!(map.physical(1, 6), 1);
/// assert_eq!(map.physical(1, 7), 3);
/// assert_eq!(map.physical(-1, 7), -1);
/// # Ok::<(), moekit::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExpertMap {
    /// `[num_physical_experts]`: logical expert of each.
    physical_to_logical: Vec<i32>,
    /// Replicas of logical expert `e` are `replicas[first[e]..first[e + 1]]`, ascending.
    replicas: Vec<i32>,
    first: Vec<u32>,
}

impl ExpertMap {
    /// One replica of each expert, in order.
    pub fn identity(num_experts: usize) -> Self {
        let all: Vec<i32> = (0..num_experts as i32).collect();
        let first = (0..=num_experts as u32).collect();
        Self { physical_to_logical: all.clone(), replicas: all, first }
    }

    /// Builds the map from the logical expert of each physical one (one layer's row of EPLB's
    /// `physical_to_logical_map`); -1 marks an unused physical expert.
    ///
    /// # Errors
    ///
    /// [`Error::Value`] if an entry is outside `-1..num_logical_experts` or a logical expert has no
    /// replica.
    pub fn new(physical_to_logical: &[i32], num_logical_experts: usize) -> Result<Self> {
        const ARG: &str = "physical_to_logical_map";
        let mut replicas = vec![Vec::new(); num_logical_experts];
        for (physical, &logical) in physical_to_logical.iter().enumerate() {
            if logical == -1 {
                continue;
            }
            let slot = usize::try_from(logical).ok().and_then(|logical| replicas.get_mut(logical));
            let Some(slot) = slot else {
                let expected = format!("-1 to {}", num_logical_experts as i64 - 1);
                let got = format!("{logical} at physical expert {physical}");
                return Err(Error::value(OP, ARG, expected, got));
            };
            slot.push(physical as i32);
        }
        if let Some(lost) = replicas.iter().position(Vec::is_empty) {
            let got = format!("none for expert {lost}");
            return Err(Error::value(OP, ARG, "a replica of every logical expert", got));
        }
        let mut first = vec![0];
        first.extend(replicas.iter().scan(0, |end, replicas| {
            *end += replicas.len() as u32;
            Some(*end)
        }));
        let physical_to_logical = physical_to_logical.to_vec();
        Ok(Self { physical_to_logical, replicas: replicas.concat(), first })
    }

    /// Experts that the router knows.
    pub fn num_logical_experts(&self) -> usize {
        self.first.len() - 1
    }

    /// Experts that ranks hold, replicas included.
    pub fn num_physical_experts(&self) -> usize {
        self.physical_to_logical.len()
    }

    /// Logical expert of each physical one; -1 = unused.
    pub fn physical_to_logical(&self) -> &[i32] {
        &self.physical_to_logical
    }

    /// The replica that serves a token; -1 stays -1, and an index out of range becomes `i32::MIN`.
    #[inline]
    pub fn physical(&self, logical_idx: i32, src_token_global_idx: usize) -> i32 {
        if logical_idx == -1 {
            return -1;
        }
        let Some(logical) =
            usize::try_from(logical_idx).ok().filter(|&e| e < self.num_logical_experts())
        else {
            return i32::MIN;
        };
        let replicas =
            &self.replicas[self.first[logical] as usize..self.first[logical + 1] as usize];
        replicas[src_token_global_idx % replicas.len()]
    }

    /// Refuses a map that does not fit the physical experts in use.
    pub(crate) fn check_physical(&self, num_experts: usize) -> Result<()> {
        check::shape(OP, "physical_to_logical_map", &[num_experts], &[self.num_physical_experts()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identity_maps_every_expert_to_itself() {
        let map = ExpertMap::identity(4);
        assert_eq!(map, ExpertMap::new(&[0, 1, 2, 3], 4).expect("identity"));
        assert_eq!((0..4).map(|e| map.physical(e, 17)).collect::<Vec<_>>(), [0, 1, 2, 3]);
    }

    #[test]
    fn an_expert_without_a_replica_is_refused() {
        let error = ExpertMap::new(&[0, -1, 2], 3).expect_err("expert 1 is lost").to_string();
        assert!(error.contains("none for expert 1"), "{error}");
    }

    #[test]
    fn an_index_out_of_range_is_marked() {
        assert_eq!(ExpertMap::identity(4).physical(4, 0), i32::MIN);
        assert_eq!(ExpertMap::identity(4).physical(-2, 0), i32::MIN);
    }
}
