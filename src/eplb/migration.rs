//! How experts travel from one placement to the next: who sends what to whom, in which round.

use serde::Serialize;

use super::balance::{check_failed, check_slots};
use super::edge_colors::edge_colors;
use super::optimized::held_of;
use super::{Balance, Cluster, Placement};
use crate::{Error, Result};

const OP: &str = "plan_migration";

/// One expert of one layer that travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Transfer {
    /// Layer of the expert.
    pub layer_idx: usize,
    /// Logical expert.
    pub expert_idx: usize,
    /// GPU that sends; `None` if no working GPU holds the expert and it must be read from storage.
    pub src_gpu: Option<usize>,
    /// GPU that receives.
    pub dst_gpu: usize,
    /// Physical expert that it becomes.
    pub dst_slot: usize,
}

/// Transfers in rounds: within a round every GPU sends at most one expert and receives at most one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MigrationPlan {
    /// Rounds in order; the transfers of a round run side by side.
    pub rounds: Vec<Vec<Transfer>>,
    /// Transfers of all rounds.
    pub num_transfers: usize,
    /// Size of one expert of one layer, in bytes.
    pub expert_bytes: u64,
    /// Bytes of all transfers.
    pub total_bytes: u64,
    /// Most experts that one GPU receives: what it must stage, as slots switch over at the end.
    pub max_received: usize,
}

/// Speed of the links that experts travel on.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct LinkSpeeds {
    /// Bytes per microsecond between GPUs of one node, one way.
    pub intra_node_bytes_per_us: f64,
    /// Bytes per microsecond between GPUs of two nodes, or from storage, one way.
    pub inter_node_bytes_per_us: f64,
    /// Start-up time of a round, in microseconds.
    pub latency_us: f64,
}

impl Default for LinkSpeeds {
    /// NVLink 4 (450 GB/s one way), one 400 Gb/s adapter a GPU (50 GB/s), 10 us a round.
    fn default() -> Self {
        Self { intra_node_bytes_per_us: 450e3, inter_node_bytes_per_us: 50e3, latency_us: 10.0 }
    }
}

/// Plans the transfers that turn `current` into `next`.
///
/// An expert comes from a GPU of the same node where one holds it, and from the GPU that has sent
/// least so far. A slot keeps its old expert until all rounds of the plan are over, so that every
/// source stays readable: arriving experts wait in `max_received * expert_bytes` of staging memory.
///
/// # Units
///
/// `expert_bytes`: bytes of one expert of one layer, weights and scale factors.
///
/// # Numerics
///
/// The number of rounds is the largest number of experts that one GPU sends or receives, which no
/// schedule with one transfer a link undercuts.
///
/// # Errors
///
/// [`Error::Shape`] unless both placements have the same layers and experts, and the cluster's
/// slots; [`Error::Value`] if `next` puts an expert on a failed GPU.
///
/// # Examples
///
/// ```
/// use moekit::eplb::{Cluster, Placement, plan_migration};
///
/// let cluster = Cluster::uniform(4, 1, 2)?;
/// let current = Placement::new(&[vec![0, 1, 2, 3]], 4)?;
/// let next = Placement::new(&[vec![0, 3, 2, 1]], 4)?;
/// let plan = plan_migration(&current, &next, &cluster, 44_000_000)?;
/// assert_eq!((plan.rounds.len(), plan.num_transfers), (1, 2));
/// # Ok::<(), moekit::Error>(())
/// ```
pub fn plan_migration(
    current: &Placement,
    next: &Placement,
    cluster: &Cluster,
    expert_bytes: u64,
) -> Result<MigrationPlan> {
    let expected = vec![current.num_layers(), current.num_logical_experts()];
    let got = vec![next.num_layers(), next.num_logical_experts()];
    if expected != got {
        return Err(Error::Shape { op: OP, arg: "next.logical_count", expected, got });
    }
    check_slots(OP, current, cluster)?;
    check_slots(OP, next, cluster)?;
    check_failed(OP, next, cluster)?;
    let transfers = list_transfers(current, next, cluster);
    let num_gpus = cluster.num_gpus();
    let mut received = vec![0; num_gpus];
    transfers.iter().for_each(|transfer| received[transfer.dst_gpu] += 1);
    // Storage serves any number of GPUs at once: each such transfer gets a sender of its own.
    let edges: Vec<(usize, usize)> = transfers
        .iter()
        .enumerate()
        .map(|(i, transfer)| (transfer.src_gpu.unwrap_or(num_gpus + i), transfer.dst_gpu))
        .collect();
    let colors = edge_colors(&edges);
    let num_rounds = colors.iter().map(|color| color + 1).max().unwrap_or(0);
    let mut rounds = vec![Vec::new(); num_rounds];
    for (&transfer, color) in transfers.iter().zip(colors) {
        rounds[color].push(transfer);
    }
    Ok(MigrationPlan {
        rounds,
        num_transfers: transfers.len(),
        expert_bytes,
        total_bytes: expert_bytes.saturating_mul(transfers.len() as u64),
        max_received: received.into_iter().max().unwrap_or(0),
    })
}

fn list_transfers(current: &Placement, next: &Placement, cluster: &Cluster) -> Vec<Transfer> {
    let node_of = |gpu: usize| cluster.gpus()[gpu].node_idx;
    let mut sent = vec![0usize; cluster.num_gpus()];
    let mut transfers = Vec::new();
    for layer_idx in 0..next.num_layers() {
        let held = held_of(cluster, current.physical_to_logical(layer_idx));
        let mut holders = vec![Vec::new(); current.num_logical_experts()];
        for (gpu, experts) in
            held.iter().enumerate().filter(|(gpu, _)| !cluster.gpus()[*gpu].failed)
        {
            experts.iter().for_each(|&e| holders[e as usize].push(gpu));
        }
        let row = next.physical_to_logical(layer_idx);
        for dst_gpu in cluster.usable_gpus() {
            let slots = cluster.slots_of(dst_gpu);
            for dst_slot in slots.clone() {
                // A second slot of an expert on one GPU is a local copy.
                let e = row[dst_slot];
                let repeated = row[slots.start..dst_slot].contains(&e);
                if e < 0 || repeated || held[dst_gpu].contains(&(e as u32)) {
                    continue;
                }
                let src_gpu = holders[e as usize]
                    .iter()
                    .copied()
                    .min_by_key(|&src| (node_of(src) != node_of(dst_gpu), sent[src], src));
                src_gpu.into_iter().for_each(|src| sent[src] += 1);
                let expert_idx = e as usize;
                transfers.push(Transfer { layer_idx, expert_idx, src_gpu, dst_gpu, dst_slot });
            }
        }
    }
    transfers
}

impl MigrationPlan {
    /// Returns the time that all rounds take: each as long as its slowest transfer.
    ///
    /// # Units
    ///
    /// Microseconds.
    pub fn time_us(&self, cluster: &Cluster, links: &LinkSpeeds) -> f64 {
        let node_of = |gpu: usize| cluster.gpus().get(gpu).map(|gpu| gpu.node_idx);
        let transfer_us = |transfer: &Transfer| {
            let local =
                transfer.src_gpu.is_some_and(|src| node_of(src) == node_of(transfer.dst_gpu));
            let speed =
                if local { links.intra_node_bytes_per_us } else { links.inter_node_bytes_per_us };
            self.expert_bytes as f64 / speed
        };
        let round_us = |round: &Vec<Transfer>| {
            links.latency_us + round.iter().map(transfer_us).fold(0.0, f64::max)
        };
        // An empty sum of floats is -0.0.
        self.rounds.iter().map(round_us).fold(0.0, |sum, us| sum + us)
    }
}

/// Returns how many steps the faster placement needs to win back the time of its migration.
///
/// `steps = migration_us / (us_per_load * sum over layers (before.max_load - after.max_load))`;
/// `None` if nothing is won.
///
/// # Units
///
/// `us_per_load`: microseconds that a GPU of speed 1 needs for one unit of load of one layer, where
/// `before` and `after` measure the load of one step.
pub fn break_even_steps(
    before: &Balance,
    after: &Balance,
    us_per_load: f64,
    migration_us: f64,
) -> Option<f64> {
    let time = |balance: &Balance| balance.layers.iter().map(|layer| layer.max_load).sum::<f64>();
    let won_us = us_per_load * (time(before) - time(after));
    (won_us > 0.0).then(|| migration_us / won_us)
}
