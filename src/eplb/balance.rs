//! How even a placement is, and how far it can be from the best.

use rayon::prelude::*;
use serde::Serialize;

use super::bound::{Capacity, lower_bound};
use super::optimized::{Pool, State, held_of};
use super::{Cluster, ExpertLoad, Placement};
use crate::{Error, Result};

const OP: &str = "balance";

/// How evenly one layer loads its GPUs, every expert's tokens split evenly over its replicas.
///
/// # Units
///
/// Loads in the unit of the expert load, divided by the GPU's speed where speeds differ.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct LayerBalance {
    /// Load of the slowest GPU.
    pub max_load: f64,
    /// All load over all speed: what every GPU would carry in perfect balance.
    pub mean_load: f64,
    /// `max_load / mean_load`, 1 for a layer without load.
    pub max_over_mean: f64,
    /// Load below which no placement brings the slowest GPU.
    pub lower_bound: f64,
    /// `max_load / lower_bound - 1`: the placement is at most this far from the best one.
    pub gap: f64,
    /// Slots that repeat an expert of the same GPU.
    pub num_duplicates: usize,
}

/// Balance of all layers.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Balance {
    /// One entry a layer.
    pub layers: Vec<LayerBalance>,
    /// Mean of `max_over_mean` over the layers.
    pub mean_max_over_mean: f64,
    /// Largest `max_over_mean` of a layer.
    pub worst_max_over_mean: f64,
    /// Mean of `gap` over the layers.
    pub mean_gap: f64,
    /// Duplicates of all layers.
    pub num_duplicates: usize,
}

impl Balance {
    /// Measures a placement.
    ///
    /// # Errors
    ///
    /// [`Error::Shape`] unless load, placement and cluster have the same layers, experts and slots;
    /// [`Error::Value`] if a failed GPU holds an expert.
    pub fn new(load: &ExpertLoad, placement: &Placement, cluster: &Cluster) -> Result<Self> {
        check_extents(OP, load, placement, cluster)?;
        let capacity = Capacity::of(cluster);
        let layers: Vec<LayerBalance> = (0..load.num_layers())
            .into_par_iter()
            .map(|layer_idx| layer_balance(load, placement, cluster, &capacity, layer_idx))
            .collect();
        let num_layers = layers.len() as f64;
        Ok(Self {
            mean_max_over_mean: layers.iter().map(|l| l.max_over_mean).sum::<f64>() / num_layers,
            worst_max_over_mean: layers.iter().map(|l| l.max_over_mean).fold(0.0, f64::max),
            mean_gap: layers.iter().map(|l| l.gap).sum::<f64>() / num_layers,
            num_duplicates: layers.iter().map(|l| l.num_duplicates).sum(),
            layers,
        })
    }
}

fn layer_balance(
    load: &ExpertLoad,
    placement: &Placement,
    cluster: &Cluster,
    capacity: &Capacity,
    layer_idx: usize,
) -> LayerBalance {
    let weights: Vec<f64> = load.layer(layer_idx).iter().map(|&w| f64::from(w)).collect();
    let gpus: Vec<usize> = (0..cluster.num_gpus()).collect();
    let pool = Pool::of(cluster, &gpus, true);
    let held = held_of(cluster, placement.physical_to_logical(layer_idx));
    let state = State::from_held(&weights, &pool, held);
    let max_load = state.slowest().1;
    let mean_load = weights.iter().sum::<f64>() / capacity.total_speed;
    let lower_bound = lower_bound(&weights, capacity, max_load);
    LayerBalance {
        max_load,
        mean_load,
        max_over_mean: if mean_load > 0.0 { max_load / mean_load } else { 1.0 },
        lower_bound,
        gap: if lower_bound > 0.0 { max_load / lower_bound - 1.0 } else { 0.0 },
        num_duplicates: state.num_duplicates(),
    }
}

/// Returns the load of every GPU, every expert's tokens split evenly over its replicas.
///
/// # Shapes
///
/// FP64 `[num_layers][num_gpus]`; not divided by speed.
///
/// # Errors
///
/// Those of [`Balance::new`].
pub fn gpu_loads(
    load: &ExpertLoad,
    placement: &Placement,
    cluster: &Cluster,
) -> Result<Vec<Vec<f64>>> {
    check_extents("gpu_loads", load, placement, cluster)?;
    let replica_load = |layer_idx: usize, e: i32| {
        let count = placement.logical_count(layer_idx)[e as usize];
        f64::from(load.layer(layer_idx)[e as usize]) / f64::from(count)
    };
    let gpu_load = |layer_idx: usize, gpu_idx: usize| {
        let row = &placement.physical_to_logical(layer_idx)[cluster.slots_of(gpu_idx)];
        row.iter().filter(|&&e| e >= 0).map(|&e| replica_load(layer_idx, e)).sum()
    };
    let layers = 0..load.num_layers();
    Ok(layers.map(|l| (0..cluster.num_gpus()).map(|gpu| gpu_load(l, gpu)).collect()).collect())
}

pub(super) fn check_extents(
    op: &'static str,
    load: &ExpertLoad,
    placement: &Placement,
    cluster: &Cluster,
) -> Result<()> {
    check_extents_of_current(op, load, placement, cluster)?;
    check_failed(op, placement, cluster)
}

/// As [`check_extents`], for a placement that may still have experts on failed GPUs.
pub(super) fn check_extents_of_current(
    op: &'static str,
    load: &ExpertLoad,
    placement: &Placement,
    cluster: &Cluster,
) -> Result<()> {
    let expected = vec![load.num_layers(), load.num_logical_experts()];
    let got = vec![placement.num_layers(), placement.num_logical_experts()];
    if expected != got {
        return Err(Error::Shape { op, arg: "placement.logical_count", expected, got });
    }
    check_slots(op, placement, cluster)
}

/// Checks that the placement has the cluster's slots.
pub(super) fn check_slots(
    op: &'static str,
    placement: &Placement,
    cluster: &Cluster,
) -> Result<()> {
    let num_layers = placement.num_layers();
    let expected = vec![num_layers, cluster.num_physical_experts()];
    let got = vec![num_layers, placement.num_physical_experts()];
    if expected == got {
        return Ok(());
    }
    Err(Error::Shape { op, arg: "placement.physical_to_logical_map", expected, got })
}

/// Checks that no failed GPU holds an expert.
pub(super) fn check_failed(
    op: &'static str,
    placement: &Placement,
    cluster: &Cluster,
) -> Result<()> {
    let num_layers = placement.num_layers();
    let failed = (0..cluster.num_gpus()).filter(|&gpu| cluster.gpus()[gpu].failed);
    for gpu in failed {
        for layer_idx in 0..num_layers {
            let slots = &placement.physical_to_logical(layer_idx)[cluster.slots_of(gpu)];
            if slots.iter().any(|&e| e >= 0) {
                let got = format!("an expert on failed GPU {gpu} (layer {layer_idx})");
                return Err(Error::value(op, "placement", "-1 on failed GPUs", got));
            }
        }
    }
    Ok(())
}
