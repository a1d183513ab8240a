//! Candidates, filters, order.

use std::fmt;

use serde::Serialize;

use super::config::{Cluster, GemmConfig, MIN_STAGES, Smem};
use super::estimate::{Efficiency, Estimate};
use super::split::{SPLITS, part_lens, splits_k};
use super::tile::{GemmTile, tiles_of};
use crate::cost::DeviceSpec;
use crate::error::{Error, Result};
use crate::gemm::{GemmKind, GemmShape};
use crate::num::ceil_div;

/// What a choice may use and reckons with.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct ChooseOptions {
    /// Parts that K may be cut into, at most. More than 1 gives up that a row's bits depend on that row alone.
    pub max_split_k: usize,
    /// What the estimates reckon with.
    pub efficiency: Efficiency,
}

impl Default for ChooseOptions {
    fn default() -> Self {
        Self { max_split_k: 1, efficiency: Efficiency::FITTED }
    }
}

/// Why a candidate cannot be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rejection {
    /// The ring would be too short.
    TooFewStages {
        /// Stages that fit into shared memory.
        num_stages: usize,
    },
    /// Swapped tiles stand beside each other along M as soon as there are more rows: nothing to share along N.
    SwappedCluster,
    /// All tiles fit into one wave: waiting for a partner costs more than sharing saves.
    ClusterInOneWave,
    /// The partner below may belong to another group.
    ClusterAcrossGroups,
    /// An odd number of tiles side by side: a group's last one has no partner.
    ClusterWithoutPartner,
    /// An odd number of SMs.
    ClusterOnOddSms,
    /// Parts of K would be shorter than the ring.
    SplitTooShort,
    /// The tile's kernel takes K whole.
    SplitOfTile,
    /// The device has not the SMs for a cluster.
    SplitOfFewSms,
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooFewStages { num_stages } => {
                write!(
                    f,
                    "only {num_stages} stages fit into shared memory, {MIN_STAGES} are needed"
                )
            }
            Self::SwappedCluster => f.write_str("swapped tiles have nothing worth sharing"),
            Self::ClusterInOneWave => f.write_str("one wave: waiting for a partner does not pay"),
            Self::ClusterAcrossGroups => f.write_str("the tile below may be another group's"),
            Self::ClusterWithoutPartner => f.write_str("an odd number of tiles side by side"),
            Self::ClusterOnOddSms => f.write_str("an odd number of SMs"),
            Self::SplitTooShort => f.write_str("parts of K would be shorter than the ring"),
            Self::SplitOfTile => f.write_str("K of such tiles is taken whole"),
            Self::SplitOfFewSms => f.write_str("fewer SMs than a cluster has CTAs"),
        }
    }
}

/// What became of a candidate.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// It can be taken.
    Legal(Estimate),
    /// It cannot.
    Rejected(Rejection),
}

/// A launch that was looked at.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Candidate {
    /// The launch.
    pub config: GemmConfig,
    /// What became of it.
    pub verdict: Verdict,
}

/// The launch to take, and all that were looked at.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Choice {
    /// The launch to take.
    pub config: GemmConfig,
    /// How long it should take.
    pub estimate: Estimate,
    /// All candidates: the legal ones in the order of preference, then the rejected ones.
    pub candidates: Vec<Candidate>,
}

/// Chooses a launch for a shape.
///
/// Candidates are the compiled tiles ([`tiles_of`]): alone, in clusters of two, or with K cut. Those that break
/// a rule ([`Rejection`]) are left out. Of the others the one with the least estimated time is taken; among equals,
/// the one that takes fewest bytes from L2, then the smallest tile, then the first in the list.
///
/// # Errors
///
/// [`Error::Value`] if `device` has too little shared memory for any tile.
///
/// # Examples
///
/// ```
/// use moekit::backend::cuda::heuristics::{ChooseOptions, choose};
/// use moekit::gemm::{GemmKind, GemmShape};
/// use moekit::cost::DeviceSpec;
///
/// let shape = GemmShape::new(GemmKind::Dense, 1, 4096, 7168);
/// let choice = choose(&shape, &DeviceSpec::H800, &ChooseOptions::default())?;
/// assert!(choice.config.tile.swap_ab && choice.config.tile.block_m == 8);
/// # Ok::<(), moekit::Error>(())
/// ```
pub fn choose(shape: &GemmShape, device: &DeviceSpec, options: &ChooseOptions) -> Result<Choice> {
    let mut candidates: Vec<Candidate> = configs(shape, device, options)
        .map(|config| match judge(shape, config, device, options) {
            Ok((config, estimate)) => Candidate { config, verdict: Verdict::Legal(estimate) },
            Err(rejection) => Candidate { config, verdict: Verdict::Rejected(rejection) },
        })
        .collect();
    candidates.sort_by(|a, b| match (&a.verdict, &b.verdict) {
        (Verdict::Legal(x), Verdict::Legal(y)) => order(&a.config, x, &b.config, y),
        (x, y) => is_rejected(x).cmp(&is_rejected(y)),
    });
    match candidates.first() {
        Some(&Candidate { config, verdict: Verdict::Legal(estimate) }) => {
            Ok(Choice { config, estimate, candidates })
        }
        _ => Err(Error::value(
            "choose",
            "device.max_smem_bytes",
            format!("room for {MIN_STAGES} stages of some tile"),
            device.max_smem_bytes,
        )),
    }
}

/// Every candidate, with as many stages as fit and all SMs.
fn configs(
    shape: &GemmShape,
    device: &DeviceSpec,
    options: &ChooseOptions,
) -> impl Iterator<Item = GemmConfig> {
    let (shape, num_sms, max_smem) = (*shape, device.num_sms, device.max_smem_bytes);
    let splits = SPLITS.into_iter().filter(move |&split| split > 1 && split <= options.max_split_k);
    let clusters = [Cluster::Single, Cluster::AlongM, Cluster::AlongN];
    tiles_of(&shape).iter().flat_map(move |&tile| {
        let num_stages = Smem::new(&tile, &shape).num_stages(max_smem);
        let alone = GemmConfig::new(&shape, tile, num_stages, num_sms);
        let whole = clusters.into_iter().map(move |cluster| GemmConfig { cluster, ..alone });
        whole.chain(splits.clone().map(move |split_k| alone.split(&shape, split_k, max_smem)))
    })
}

/// Applies the rules; returns the config with no more SMs than its waves need, and its estimate.
fn judge(
    shape: &GemmShape,
    mut config: GemmConfig,
    device: &DeviceSpec,
    options: &ChooseOptions,
) -> Result<(GemmConfig, Estimate), Rejection> {
    if config.split_k > 1 {
        check_split(shape, &config)?;
    }
    if config.num_stages < MIN_STAGES {
        return Err(Rejection::TooFewStages { num_stages: config.num_stages });
    }
    let estimate = Estimate::new(shape, &config, device, &options.efficiency);
    if config.cluster != Cluster::Single {
        check_cluster(shape, &config, &estimate)?;
    }
    // Where the number of waves varies, the fewer are not to become more.
    let num_sms = (estimate.num_tiles / estimate.num_waves.floor().max(1.0)).ceil().max(1.0);
    let num_sms = (num_sms as usize).next_multiple_of(config.cluster_len());
    config.num_sms = num_sms.min(config.num_sms);
    Ok((config, estimate))
}

fn check_split(shape: &GemmShape, config: &GemmConfig) -> Result<(), Rejection> {
    if !splits_k(&config.tile, shape) {
        return Err(Rejection::SplitOfTile);
    }
    if config.num_sms == 0 {
        return Err(Rejection::SplitOfFewSms);
    }
    let [shortest, _] = part_lens(shape, config.split_k);
    if shortest < config.num_stages.min(MIN_STAGES + 1) {
        return Err(Rejection::SplitTooShort);
    }
    Ok(())
}

fn check_cluster(
    shape: &GemmShape,
    config: &GemmConfig,
    estimate: &Estimate,
) -> Result<(), Rejection> {
    if config.tile.swap_ab {
        return Err(Rejection::SwappedCluster);
    }
    if !config.num_sms.is_multiple_of(config.cluster.num_ctas()) {
        return Err(Rejection::ClusterOnOddSms);
    }
    if estimate.num_waves <= 1.0 {
        return Err(Rejection::ClusterInOneWave);
    }
    let has_unknown_rows = matches!(shape.kind, GemmKind::Contiguous | GemmKind::Masked);
    if config.cluster == Cluster::AlongM && has_unknown_rows {
        return Err(Rejection::ClusterAcrossGroups);
    }
    let (extent, block) = match config.cluster {
        Cluster::AlongN => (shape.n, config.tile.block_n),
        _ => (shape.m, config.tile.block_m),
    };
    if !ceil_div(extent, block).is_multiple_of(2) && shape.kind != GemmKind::Dense {
        return Err(Rejection::ClusterWithoutPartner);
    }
    Ok(())
}

fn is_rejected(verdict: &Verdict) -> bool {
    matches!(verdict, Verdict::Rejected(_))
}

fn order(a: &GemmConfig, x: &Estimate, b: &GemmConfig, y: &Estimate) -> std::cmp::Ordering {
    let perimeter = |tile: &GemmTile| tile.block_m + tile.block_n;
    x.time_us
        .total_cmp(&y.time_us)
        .then(x.l2_bytes.cmp(&y.l2_bytes))
        .then(perimeter(&a.tile).cmp(&perimeter(&b.tile)))
}
