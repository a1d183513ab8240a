//! Which physical expert holds which logical expert, and back.

use crate::{Error, Result};

/// A placement of logical experts into physical slots, for every layer, with its inverse.
///
/// # Shapes
///
/// | name | dtype | shape | layout |
/// | --- | --- | --- | --- |
/// | `physical_to_logical_map` | INT32 | `[num_layers, num_physical_experts]` | -1 = empty slot (failed GPU) |
/// | `logical_to_physical_map` | INT32 | `[num_layers, num_logical_experts, max_replicas]` | by `replica_idx`, padded with -1 |
/// | `logical_count` | INT32 | `[num_layers, num_logical_experts]` | replicas, >= 1 |
///
/// # Examples
///
/// ```
/// use moekit::eplb::Placement;
///
/// let placement = Placement::new(&[vec![1, 0, 1]], 2)?;
/// assert_eq!(placement.logical_count(0), [1, 2]);
/// assert_eq!(placement.replicas(0, 1), [0, 2]);
/// # Ok::<(), moekit::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placement {
    num_logical_experts: usize,
    num_physical_experts: usize,
    max_replicas: usize,
    physical_to_logical_map: Vec<i32>,
    logical_to_physical_map: Vec<i32>,
    logical_count: Vec<i32>,
}

impl Placement {
    /// Builds the inverse map of `physical_to_logical_map`; replicas ascend by physical index.
    ///
    /// # Errors
    ///
    /// [`Error::Value`] if there is no layer, rows differ in length, an entry is neither -1 nor
    /// below `num_logical_experts`, or an expert has no replica.
    pub fn new(physical_to_logical_map: &[Vec<i32>], num_logical_experts: usize) -> Result<Self> {
        let replica_idx = physical_to_logical_map
            .iter()
            .map(|row| replicas_in_order(row, num_logical_experts))
            .collect::<Result<Vec<_>>>()?;
        Self::with_replica_idx(physical_to_logical_map, &replica_idx, num_logical_experts)
    }

    /// Takes both maps, so that replicas keep their order.
    ///
    /// # Shapes
    ///
    /// `physical_to_logical_map` INT32 `[num_layers][num_physical_experts]`;
    /// `logical_to_physical_map` INT32 `[num_layers][num_logical_experts][max_replicas]`, padded
    /// with -1.
    ///
    /// # Errors
    ///
    /// Those of [`Placement::new`]; [`Error::Value`] unless each map is the other's inverse.
    ///
    /// # Examples
    ///
    /// ```
    /// use moekit::eplb::Placement;
    ///
    /// let placement = Placement::from_maps(&[vec![1, 0, 1]], &[vec![vec![1, -1], vec![2, 0]]])?;
    /// assert_eq!(placement.replicas(0, 1), [2, 0]);
    /// # Ok::<(), moekit::Error>(())
    /// ```
    pub fn from_maps(
        physical_to_logical_map: &[Vec<i32>],
        logical_to_physical_map: &[Vec<Vec<i32>>],
    ) -> Result<Self> {
        let num_logical_experts = logical_to_physical_map.first().map_or(0, Vec::len);
        let ascending = Self::new(physical_to_logical_map, num_logical_experts)?;
        if logical_to_physical_map.len() != ascending.num_layers() {
            let expected = format!("{} layers", ascending.num_layers());
            return Err(refuse_inverse(expected, logical_to_physical_map.len()));
        }
        let mut replica_idx = Vec::with_capacity(ascending.num_layers());
        for (layer_idx, experts) in logical_to_physical_map.iter().enumerate() {
            let mut ranks = vec![-1; ascending.num_physical_experts()];
            for e in 0..num_logical_experts.max(experts.len()) {
                let given = experts.get(e).map_or(&[][..], Vec::as_slice);
                let num_slots = given.iter().position(|&slot| slot < 0).unwrap_or(given.len());
                let (slots, padding) = given.split_at(num_slots);
                let mut sorted = slots.to_vec();
                sorted.sort_unstable();
                if sorted != ascending.replicas(layer_idx, e) || padding.iter().any(|&p| p != -1) {
                    let expected = format!("the slots of expert {e} in layer {layer_idx}, then -1");
                    return Err(refuse_inverse(expected, format!("{given:?}")));
                }
                for (rank, &slot) in slots.iter().enumerate() {
                    ranks[slot as usize] = rank as i32;
                }
            }
            replica_idx.push(ranks);
        }
        Self::with_replica_idx(physical_to_logical_map, &replica_idx, num_logical_experts)
    }

    /// As [`Placement::new`], with each slot's `replica_idx` given: `[num_layers,
    /// num_physical_experts]`, for every expert a permutation of `0..logical_count`.
    pub(super) fn with_replica_idx(
        physical_to_logical_map: &[Vec<i32>],
        replica_idx: &[Vec<i32>],
        num_logical_experts: usize,
    ) -> Result<Self> {
        let num_layers = physical_to_logical_map.len();
        let num_physical_experts = physical_to_logical_map.first().map_or(0, Vec::len);
        if num_physical_experts == 0 || num_logical_experts == 0 {
            let got = format!("{num_layers} layers of {num_physical_experts} slots");
            return Err(refuse("at least one layer, slot and expert", got));
        }
        let mut logical_count = vec![0i32; num_layers * num_logical_experts];
        for (layer_idx, row) in physical_to_logical_map.iter().enumerate() {
            if row.len() != num_physical_experts {
                let expected = format!("{num_physical_experts} slots in every layer");
                return Err(refuse(expected, format!("{} in layer {layer_idx}", row.len())));
            }
            let counts = &mut logical_count[layer_idx * num_logical_experts..];
            row.iter().filter(|&&e| e >= 0).for_each(|&e| counts[e as usize] += 1);
            if let Some(e) = counts[..num_logical_experts].iter().position(|&count| count == 0) {
                let got = format!("none for expert {e} in layer {layer_idx}");
                return Err(refuse("a slot for every logical expert", got));
            }
        }
        let max_replicas = logical_count.iter().copied().max().unwrap_or(0) as usize;
        let mut logical_to_physical_map = vec![-1; num_layers * num_logical_experts * max_replicas];
        for (layer_idx, (row, ranks)) in physical_to_logical_map.iter().zip(replica_idx).enumerate()
        {
            for (slot, (&e, &rank)) in row.iter().zip(ranks).enumerate().filter(|(_, r)| *r.0 >= 0)
            {
                let expert = layer_idx * num_logical_experts + e as usize;
                logical_to_physical_map[expert * max_replicas + rank as usize] = slot as i32;
            }
        }
        Ok(Self {
            num_logical_experts,
            num_physical_experts,
            max_replicas,
            physical_to_logical_map: physical_to_logical_map.concat(),
            logical_to_physical_map,
            logical_count,
        })
    }

    /// Returns a placement with other rows; layers that stay the same keep their replicas' order.
    pub(super) fn with_rows(&self, physical_to_logical_map: &[Vec<i32>]) -> Result<Self> {
        let replica_idx = physical_to_logical_map.iter().enumerate().map(|(layer_idx, row)| {
            if row == self.physical_to_logical(layer_idx) {
                return Ok(self.replica_idx(layer_idx));
            }
            replicas_in_order(row, self.num_logical_experts)
        });
        let replica_idx = replica_idx.collect::<Result<Vec<_>>>()?;
        Self::with_replica_idx(physical_to_logical_map, &replica_idx, self.num_logical_experts)
    }

    /// Returns which replica of its expert each slot is: INT32 `[num_physical_experts]`, -1 = empty.
    pub fn replica_idx(&self, layer_idx: usize) -> Vec<i32> {
        let mut replica_idx = vec![-1; self.physical_to_logical(layer_idx).len()];
        for expert_idx in 0..self.num_logical_experts {
            for (i, &slot) in self.replicas(layer_idx, expert_idx).iter().enumerate() {
                replica_idx[slot as usize] = i as i32;
            }
        }
        replica_idx
    }

    /// Returns the number of MoE layers.
    pub fn num_layers(&self) -> usize {
        self.physical_to_logical_map.len() / self.num_physical_experts
    }

    /// Returns the number of logical experts of a layer.
    pub fn num_logical_experts(&self) -> usize {
        self.num_logical_experts
    }

    /// Returns the number of slots of a layer, empty ones included.
    pub fn num_physical_experts(&self) -> usize {
        self.num_physical_experts
    }

    /// Returns the largest `logical_count` of any layer: the last extent of
    /// `logical_to_physical_map`.
    pub fn max_replicas(&self) -> usize {
        self.max_replicas
    }

    /// Returns one layer of `physical_to_logical_map`: INT32 `[num_physical_experts]`, -1 = empty.
    pub fn physical_to_logical(&self, layer_idx: usize) -> &[i32] {
        rows(&self.physical_to_logical_map, self.num_physical_experts, layer_idx)
    }

    /// Returns one layer of `logical_count`: INT32 `[num_logical_experts]`.
    pub fn logical_count(&self, layer_idx: usize) -> &[i32] {
        rows(&self.logical_count, self.num_logical_experts, layer_idx)
    }

    /// Returns the slots of one expert by `replica_idx`: INT32 `[logical_count]`, no padding.
    pub fn replicas(&self, layer_idx: usize, expert_idx: usize) -> &[i32] {
        let Some(&count) = self.logical_count(layer_idx).get(expert_idx) else {
            return &[];
        };
        let expert = layer_idx * self.num_logical_experts + expert_idx;
        &rows(&self.logical_to_physical_map, self.max_replicas, expert)[..count as usize]
    }

    /// Returns all of `physical_to_logical_map`: INT32 `[num_layers, num_physical_experts]`,
    /// row-major.
    pub fn physical_to_logical_map(&self) -> &[i32] {
        &self.physical_to_logical_map
    }

    /// Returns all of `logical_to_physical_map`: INT32
    /// `[num_layers, num_logical_experts, max_replicas]`, row-major, padded with -1.
    pub fn logical_to_physical_map(&self) -> &[i32] {
        &self.logical_to_physical_map
    }

    /// Returns all of `logical_count`: INT32 `[num_layers, num_logical_experts]`, row-major.
    pub fn logical_count_map(&self) -> &[i32] {
        &self.logical_count
    }
}

/// Returns each slot's number among the slots of its expert.
fn replicas_in_order(row: &[i32], num_logical_experts: usize) -> Result<Vec<i32>> {
    let mut seen = vec![0; num_logical_experts];
    row.iter()
        .map(|&e| match usize::try_from(e) {
            Ok(e) if e < num_logical_experts => {
                seen[e] += 1;
                Ok(seen[e] - 1)
            }
            Err(_) if e == -1 => Ok(-1),
            _ => Err(refuse(format!("-1 or an expert below {num_logical_experts}"), e)),
        })
        .collect()
}

fn rows(values: &[i32], row_len: usize, row_idx: usize) -> &[i32] {
    values.chunks_exact(row_len).nth(row_idx).unwrap_or_default()
}

fn refuse_inverse(expected: impl ToString, got: impl ToString) -> Error {
    Error::value("placement", "logical_to_physical_map", expected, got)
}

fn refuse(expected: impl ToString, got: impl ToString) -> Error {
    Error::value("placement", "physical_to_logical_map", expected, got)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_maps_invert_each_other_and_pad_with_minus_one() {
        let rows = [vec![2, 0, 1, 2, -1], vec![0, 1, 0, 2, 0]];
        let placement = Placement::new(&rows, 3).expect("valid placement");
        assert_eq!(placement.max_replicas(), 3);
        let map = placement.logical_to_physical_map();
        assert_eq!(map[..9], [1, -1, -1, 2, -1, -1, 0, 3, -1]);
        assert_eq!(map[9..], [0, 2, 4, 1, -1, -1, 3, -1, -1]);
        assert_eq!(placement.logical_count_map(), [1, 1, 2, 3, 1, 1]);
        assert_eq!(placement.replicas(1, 0), [0, 2, 4]);
        assert!(placement.replicas(1, 7).is_empty());
        assert!(placement.replicas(7, 0).is_empty());
    }

    #[test]
    fn both_maps_together_keep_the_order_of_replicas() {
        let (rows, inverse) = ([vec![1, 0, 1, -1]], [vec![vec![1, -1], vec![2, 0]]]);
        let placement = Placement::from_maps(&rows, &inverse).expect("inverse maps");
        assert_eq!(placement.logical_to_physical_map(), [1, -1, 2, 0]);
        assert_eq!(placement.replica_idx(0), [1, 0, 0, -1]);
        for wrong in [
            vec![vec![vec![1, -1], vec![2, 1]]],
            vec![vec![vec![1, -1], vec![2, 2]]],
            vec![vec![vec![1, -1], vec![2, -1]]],
            vec![vec![vec![1, -2], vec![2, 0]]],
            vec![vec![vec![1, -1], vec![2, 0], vec![3, -1]]],
            vec![inverse[0].clone(), inverse[0].clone()],
            vec![],
        ] {
            assert!(Placement::from_maps(&rows, &wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_map_that_is_no_placement_is_refused() {
        let message = |rows: &[Vec<i32>]| {
            Placement::new(rows, 2).expect_err("the map should be refused").to_string()
        };
        let prefix = "placement: `physical_to_logical_map` is";
        assert_eq!(
            message(&[vec![0, 0]]),
            format!(
                "{prefix} none for expert 1 in layer 0, expected a slot for every logical expert"
            )
        );
        assert_eq!(message(&[vec![0, 2]]), format!("{prefix} 2, expected -1 or an expert below 2"));
        assert_eq!(
            message(&[vec![-2, 1]]),
            format!("{prefix} -2, expected -1 or an expert below 2")
        );
        assert_eq!(
            message(&[vec![0, 1], vec![0, 1, 1]]),
            format!("{prefix} 3 in layer 1, expected 2 slots in every layer")
        );
        assert!(message(&[]).contains("0 layers of 0 slots"));
    }
}
