//! The GPUs that hold the experts: slots, speed, node, failed or not.

use crate::{Error, Result};

const OP: &str = "cluster";

/// Most slots of a layer: bounds the memory that a mistyped count can ask for.
pub(super) const MAX_SLOTS: usize = 1 << 24;

/// One GPU of a [`Cluster`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Gpu {
    /// Node that the GPU sits in.
    pub node_idx: usize,
    /// Physical experts that the GPU holds, `>= 0`.
    pub num_slots: usize,
    /// Relative speed, finite and `> 0`; a load of `x` tokens takes time proportional to `x / speed`.
    pub speed: f64,
    /// A failed GPU keeps its slot numbers, but its slots hold nothing (-1).
    pub failed: bool,
}

/// GPUs in order of their physical slots: GPU 0 has slots `0..num_slots`, GPU 1 the next, ...
///
/// # Examples
///
/// ```
/// use moekit::eplb::Cluster;
///
/// // 18 slots on 4 GPUs of 2 nodes: 5, 5, 4 and 4 slots.
/// let cluster = Cluster::uniform(18, 2, 4)?.with_failed(&[3])?;
/// assert_eq!(cluster.slots_of(1), 5..10);
/// assert_eq!(cluster.num_usable_slots(), 14);
/// # Ok::<(), moekit::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Cluster {
    gpus: Vec<Gpu>,
    // [num_gpus + 1], exclusive prefix sum of slots
    slot_offsets: Vec<usize>,
}

impl Cluster {
    /// Checks and stores the GPUs.
    ///
    /// # Errors
    ///
    /// [`Error::Value`] if there is no GPU, no usable slot, more than 2^24 slots, or a speed that is not finite and
    /// positive.
    pub fn new(gpus: Vec<Gpu>) -> Result<Self> {
        if let Some((gpu_idx, gpu)) =
            gpus.iter().enumerate().find(|(_, gpu)| !(gpu.speed.is_finite() && gpu.speed > 0.0))
        {
            let got = format!("{} (GPU {gpu_idx})", gpu.speed);
            return Err(Error::value(OP, "gpu_speeds", "finite values > 0", got));
        }
        let mut slot_offsets = vec![0];
        for gpu in &gpus {
            let end = gpu.num_slots.saturating_add(slot_offsets[slot_offsets.len() - 1]);
            if end > MAX_SLOTS {
                let expected = format!("at most {MAX_SLOTS} on all GPUs");
                return Err(Error::value(OP, "gpu_slots", expected, end));
            }
            slot_offsets.push(end);
        }
        let cluster = Self { gpus, slot_offsets };
        if cluster.num_usable_slots() == 0 {
            let got = format!("{} GPUs with 0 usable slots", cluster.num_gpus());
            return Err(Error::value(OP, "num_gpus", "at least one usable slot", got));
        }
        Ok(cluster)
    }

    /// Spreads `num_physical_experts` slots over equal GPUs, and those over nodes, as evenly as
    /// they divide: the first GPUs hold one slot more where they do not.
    ///
    /// # Errors
    ///
    /// [`Error::Value`] unless `1 <= num_physical_experts <= 2^24` and
    /// `1 <= num_nodes <= num_gpus <= num_physical_experts`.
    pub fn uniform(num_physical_experts: usize, num_nodes: usize, num_gpus: usize) -> Result<Self> {
        if !(1..=MAX_SLOTS).contains(&num_physical_experts) {
            let expected = format!("1 to {MAX_SLOTS}");
            return Err(Error::value(OP, "num_physical_experts", expected, num_physical_experts));
        }
        if num_gpus == 0 || num_gpus > num_physical_experts {
            let expected = format!("1 to num_physical_experts = {num_physical_experts}");
            return Err(Error::value(OP, "num_gpus", expected, num_gpus));
        }
        if num_nodes == 0 || num_nodes > num_gpus {
            let expected = format!("1 to num_gpus = {num_gpus}");
            return Err(Error::value(OP, "num_nodes", expected, num_nodes));
        }
        let (share, rest) = (num_physical_experts / num_gpus, num_physical_experts % num_gpus);
        Self::new(
            (0..num_gpus)
                .map(|gpu_idx| Gpu {
                    node_idx: gpu_idx * num_nodes / num_gpus,
                    num_slots: share + usize::from(gpu_idx < rest),
                    speed: 1.0,
                    failed: false,
                })
                .collect(),
        )
    }

    /// Replaces the slots of each GPU: `[num_gpus]`.
    ///
    /// # Errors
    ///
    /// [`Error::Shape`] unless `slots.len() == num_gpus`; [`Error::Value`] if none is left.
    pub fn with_slots(mut self, slots: &[usize]) -> Result<Self> {
        self.check_len("gpu_slots", slots.len())?;
        self.gpus.iter_mut().zip(slots).for_each(|(gpu, &num_slots)| gpu.num_slots = num_slots);
        Self::new(self.gpus)
    }

    /// Replaces the relative speed of each GPU: `[num_gpus]`, finite and positive.
    ///
    /// # Errors
    ///
    /// [`Error::Shape`] unless `speeds.len() == num_gpus`; [`Error::Value`] for a bad speed.
    pub fn with_speeds(mut self, speeds: &[f64]) -> Result<Self> {
        self.check_len("gpu_speeds", speeds.len())?;
        self.gpus.iter_mut().zip(speeds).for_each(|(gpu, &speed)| gpu.speed = speed);
        Self::new(self.gpus)
    }

    /// Masks out the listed GPUs: their slots keep their numbers and hold nothing.
    ///
    /// # Errors
    ///
    /// [`Error::Value`] for an index `>= num_gpus`, or if no usable slot is left.
    pub fn with_failed(mut self, gpu_idxs: &[usize]) -> Result<Self> {
        for &gpu_idx in gpu_idxs {
            let expected = format!("indices below num_gpus = {}", self.gpus.len());
            let gpu = self.gpus.get_mut(gpu_idx);
            gpu.ok_or_else(|| Error::value(OP, "failed_gpus", expected, gpu_idx))?.failed = true;
        }
        if self.num_usable_slots() == 0 {
            let got = "all GPUs that have slots";
            return Err(Error::value(OP, "failed_gpus", "at least one GPU left", got));
        }
        Self::new(self.gpus)
    }

    fn check_len(&self, arg: &'static str, got: usize) -> Result<()> {
        if got == self.gpus.len() {
            return Ok(());
        }
        Err(Error::Shape { op: OP, arg, expected: vec![self.gpus.len()], got: vec![got] })
    }

    /// Returns the GPUs, failed ones included.
    pub fn gpus(&self) -> &[Gpu] {
        &self.gpus
    }

    /// Returns the number of GPUs, failed ones included.
    pub fn num_gpus(&self) -> usize {
        self.gpus.len()
    }

    /// Returns the number of nodes: one more than the largest `node_idx`.
    pub fn num_nodes(&self) -> usize {
        self.gpus.iter().map(|gpu| gpu.node_idx + 1).max().unwrap_or(0)
    }

    /// Returns the number of slots, those of failed GPUs included.
    pub fn num_physical_experts(&self) -> usize {
        self.slot_offsets[self.gpus.len()]
    }

    /// Returns the number of slots on GPUs that work.
    pub fn num_usable_slots(&self) -> usize {
        self.usable_gpus().map(|gpu_idx| self.gpus[gpu_idx].num_slots).sum()
    }

    /// Iterates over the GPUs that work and have slots.
    pub fn usable_gpus(&self) -> impl Iterator<Item = usize> {
        (0..self.gpus.len()).filter(|&i| !self.gpus[i].failed && self.gpus[i].num_slots > 0)
    }

    /// Returns the physical experts of one GPU; empty past the last GPU.
    pub fn slots_of(&self, gpu_idx: usize) -> std::ops::Range<usize> {
        match self.slot_offsets.get(gpu_idx..gpu_idx.saturating_add(2)) {
            Some(&[start, end]) => start..end,
            _ => 0..0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_and_nodes_that_do_not_divide_are_spread_evenly() {
        let cluster = Cluster::uniform(11, 2, 3).expect("11 slots on 3 GPUs");
        let slots: Vec<_> = cluster.gpus().iter().map(|gpu| gpu.num_slots).collect();
        let nodes: Vec<_> = cluster.gpus().iter().map(|gpu| gpu.node_idx).collect();
        assert_eq!((slots, nodes), (vec![4, 4, 3], vec![0, 0, 1]));
        assert_eq!((cluster.slots_of(2), cluster.slots_of(3)), (8..11, 0..0));
        assert_eq!(cluster.slots_of(usize::MAX), 0..0);
    }

    #[test]
    fn impossible_clusters_name_the_argument() {
        let message = |result: Result<Cluster>| result.expect_err("refused").to_string();
        assert_eq!(
            message(Cluster::uniform(0, 1, 1)),
            "cluster: `num_physical_experts` is 0, expected 1 to 16777216"
        );
        assert_eq!(
            message(Cluster::uniform(4, 1, 5)),
            "cluster: `num_gpus` is 5, expected 1 to num_physical_experts = 4"
        );
        assert_eq!(
            message(Cluster::uniform(4, 3, 2)),
            "cluster: `num_nodes` is 3, expected 1 to num_gpus = 2"
        );
        let pair = Cluster::uniform(4, 1, 2).expect("two GPUs");
        assert_eq!(
            message(pair.clone().with_failed(&[0, 1])),
            "cluster: `failed_gpus` is all GPUs that have slots, expected at least one GPU left"
        );
        assert_eq!(
            message(pair.clone().with_failed(&[2])),
            "cluster: `failed_gpus` is 2, expected indices below num_gpus = 2"
        );
        assert_eq!(
            message(pair.clone().with_speeds(&[1.0, 0.0])),
            "cluster: `gpu_speeds` is 0 (GPU 1), expected finite values > 0"
        );
        assert_eq!(
            message(pair.with_slots(&[1])),
            "cluster: `gpu_slots` has shape [1], expected [2]"
        );
    }
}
