//! How the tokens of a batch split over an expert's replicas.

use rayon::prelude::*;

use super::balance::check_extents;
use super::even_out::even_out;
use super::optimized::held_of;
use super::{Cluster, ExpertLoad, Placement};
use crate::Result;

/// Fractions of every expert's tokens that its replicas take.
///
/// # Shapes
///
/// | name | dtype | shape | layout |
/// | --- | --- | --- | --- |
/// | `fractions` | FP64 | `[num_layers, num_logical_experts, max_replicas]` | by `replica_idx`, 0 = padding, sums to 1 |
/// | `gpu_loads` | FP64 | `[num_layers, num_gpus]` | tokens, not divided by speed |
#[derive(Debug, Clone, PartialEq)]
pub struct TokenSplit {
    num_logical_experts: usize,
    max_replicas: usize,
    fractions: Vec<f64>,
    gpu_loads: Vec<Vec<f64>>,
    max_loads: Vec<f64>,
}

/// Splits each expert's tokens over its replicas so that the slowest GPU is as fast as can be.
///
/// Solves, for every layer, the linear program
/// `minimise t subject to sum_r f[e, r] = 1, f >= 0,
/// sum over slots of g (load[e] f[e, r]) <= t speed[g]`,
/// and among its solutions takes the one whose second slowest GPU is fastest, and so on. An expert
/// without tokens is split evenly, as are the replicas of an expert on one GPU.
///
/// # Numerics
///
/// FP64; exact but for rounding (relative error of `t` at most 1e-9). The program is a
/// transportation problem: `t` rises from a lower bound to the next violated cut of a maximum flow,
/// at most once per GPU.
///
/// # Errors
///
/// [`Error::Shape`](crate::Error::Shape) unless load, placement and cluster have the same layers,
/// experts and slots; [`Error::Value`](crate::Error::Value) if a failed GPU holds an expert.
///
/// # Examples
///
/// ```
/// use moekit::eplb::{Cluster, ExpertLoad, Placement, split_tokens};
///
/// // Expert 0 is on both GPUs; GPU 1 also has the 60 tokens of expert 2, GPU 0 the 20 of expert 1.
/// let load = ExpertLoad::new([[100, 20, 60]])?;
/// let placement = Placement::new(&[vec![0, 1, 0, 2]], 3)?;
/// let split = split_tokens(&load, &placement, &Cluster::uniform(4, 1, 2)?)?;
/// assert_eq!(split.fractions(0, 0), [0.7, 0.3]);
/// assert_eq!(split.max_load(0), 90.0);
/// # Ok::<(), moekit::Error>(())
/// ```
pub fn split_tokens(
    load: &ExpertLoad,
    placement: &Placement,
    cluster: &Cluster,
) -> Result<TokenSplit> {
    check_extents("split_tokens", load, placement, cluster)?;
    let layers: Vec<LayerSplit> = (0..load.num_layers())
        .into_par_iter()
        .map(|layer_idx| LayerSplit::solve(load.layer(layer_idx), placement, cluster, layer_idx))
        .collect();
    let time = |(gpu, load): (usize, &f64)| load / cluster.gpus()[gpu].speed;
    Ok(TokenSplit {
        num_logical_experts: placement.num_logical_experts(),
        max_replicas: placement.max_replicas(),
        max_loads: layers
            .iter()
            .map(|layer| layer.gpu_loads.iter().enumerate().map(time).fold(0.0, f64::max))
            .collect(),
        fractions: layers.iter().flat_map(|layer| layer.fractions.iter().copied()).collect(),
        gpu_loads: layers.into_iter().map(|layer| layer.gpu_loads).collect(),
    })
}

impl TokenSplit {
    /// Returns the number of layers.
    pub fn num_layers(&self) -> usize {
        self.gpu_loads.len()
    }

    /// Returns one expert's fractions by `replica_idx`: FP64 `[max_replicas]`, 0 = padding.
    pub fn fractions(&self, layer_idx: usize, expert_idx: usize) -> &[f64] {
        if expert_idx >= self.num_logical_experts {
            return &[];
        }
        let expert = layer_idx * self.num_logical_experts + expert_idx;
        self.fractions.chunks_exact(self.max_replicas).nth(expert).unwrap_or_default()
    }

    /// Returns the load of every GPU under the split: FP64 `[num_gpus]`, not divided by speed.
    pub fn gpu_loads(&self, layer_idx: usize) -> &[f64] {
        self.gpu_loads.get(layer_idx).map_or(&[], Vec::as_slice)
    }

    /// Returns the slowest GPU's load, divided by its speed; 0 past the last layer.
    pub fn max_load(&self, layer_idx: usize) -> f64 {
        self.max_loads.get(layer_idx).copied().unwrap_or(0.0)
    }
}

/// One layer's solution.
struct LayerSplit {
    // [num_logical_experts, max_replicas]
    fractions: Vec<f64>,
    gpu_loads: Vec<f64>,
}

impl LayerSplit {
    fn solve(load: &[f32], placement: &Placement, cluster: &Cluster, layer_idx: usize) -> Self {
        let mut hosts = vec![Vec::new(); load.len()];
        let held = held_of(cluster, placement.physical_to_logical(layer_idx));
        for (gpu, experts) in held.iter().enumerate() {
            for &e in experts {
                hosts[e as usize].push(gpu);
            }
        }
        let distinct = hosts.iter().map(|gpus| {
            let mut gpus: Vec<usize> = gpus.clone();
            gpus.dedup();
            gpus
        });
        let distinct: Vec<Vec<usize>> = distinct.collect();
        let weights: Vec<f64> = load.iter().map(|&w| f64::from(w)).collect();
        let speeds: Vec<f64> = cluster.gpus().iter().map(|gpu| gpu.speed).collect();
        let sent = even_out(&distinct, &weights, &speeds);

        let mut gpu_loads = vec![0.0; cluster.num_gpus()];
        let max_replicas = placement.max_replicas();
        let mut fractions = vec![0.0; load.len() * max_replicas];
        let gpu_of = gpu_of_slot(cluster);
        for (e, gpus) in distinct.iter().enumerate() {
            gpus.iter().zip(&sent[e]).for_each(|(&gpu, sent)| gpu_loads[gpu] += sent);
            let slots = placement.replicas(layer_idx, e);
            for (replica, &slot) in slots.iter().enumerate() {
                let gpu = gpu_of[slot as usize];
                fractions[e * max_replicas + replica] = if weights[e] > 0.0 {
                    let position = gpus.iter().position(|&other| other == gpu);
                    let sent = position.map_or(0.0, |position| sent[e][position]);
                    let repeats = hosts[e].iter().filter(|&&other| other == gpu).count();
                    sent / weights[e] / repeats as f64
                } else {
                    1.0 / slots.len() as f64
                };
            }
        }
        Self { fractions, gpu_loads }
    }
}

fn gpu_of_slot(cluster: &Cluster) -> Vec<usize> {
    (0..cluster.num_gpus()).flat_map(|gpu| cluster.slots_of(gpu).map(move |_| gpu)).collect()
}
