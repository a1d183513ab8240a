//! The arguments of `moekit eplb`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use moekit::eplb::{Cluster, Estimator, LinkSpeeds, OptimizedOptions, RebalanceParams};
use moekit::{Error, Result};

/// Place experts on GPUs so that all are loaded alike (expert parallelism load balancing).
///
/// Reads a load and prints the placement and its balance; with --current it moves few experts and
/// prints the migration; with --trace it replays a trace of loads.
#[derive(Debug, Args)]
#[command(allow_negative_numbers = true)]
pub struct EplbArgs {
    /// Expert load, `[num_layers, num_experts]` tokens >= 0: JSON ({"weight": [[..]]} or [[..]]),
    /// .csv (a line a layer) or .safetensors (tensor `weight`)
    #[arg(long, value_name = "FILE", required_unless_present = "trace", conflicts_with = "trace")]
    pub load: Option<PathBuf>,

    /// Expert counts step by step, `[num_steps][num_layers, num_experts]` tokens >= 0, to replay:
    /// JSON ({"trace": [[[..]]]} or [[[..]]]), .csv (step,layer,expert,count) or .safetensors
    /// (tensor `trace`)
    #[arg(long, value_name = "FILE")]
    pub trace: Option<PathBuf>,

    /// Physical experts (slots) of a layer on all GPUs together, >= the experts of the load
    #[arg(long, value_name = "R")]
    pub replicas: usize,

    /// Expert groups, in order and equally large; groups stay on one node if nodes divide them
    #[arg(long, value_name = "G", default_value_t = 1)]
    pub groups: usize,

    /// Nodes that the GPUs fall into, in order
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub nodes: usize,

    /// GPUs of all nodes together
    #[arg(long, value_name = "P")]
    pub gpus: usize,

    /// How experts are placed
    #[arg(long, value_enum, default_value_t = PolicyArg::Deepseek)]
    pub policy: PolicyArg,

    /// What the searching policies may do, and the GPUs' differences
    #[command(flatten)]
    pub cluster: ClusterArgs,

    /// Moving from a placement in use
    #[command(flatten)]
    pub moves: MoveArgs,

    /// Replaying a trace
    #[command(flatten)]
    pub replay: ReplayArgs,

    /// Also split each expert's tokens over its replicas so that the slowest GPU is fastest (with
    /// --trace: in every step)
    #[arg(long)]
    pub split_tokens: bool,

    /// Print JSON for scripts instead of text
    #[arg(long)]
    pub json: bool,

    /// Write heat maps of the load per GPU before and after (with --trace: the balance over the
    /// steps) as SVG
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,
}

/// The value of `--policy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PolicyArg {
    /// DeepSeek's EPLB, entry for entry
    Deepseek,
    /// Smaller maximum, no expert twice on a GPU, any extents
    Optimized,
    /// With --trace: at most --max-moves transfers at an interval
    Incremental,
    /// With --trace: the first placement stays
    Fixed,
}

impl PolicyArg {
    /// The value as it is written.
    pub fn name(self) -> &'static str {
        match self {
            Self::Deepseek => "deepseek",
            Self::Optimized => "optimized",
            Self::Incremental => "incremental",
            Self::Fixed => "fixed",
        }
    }
}

/// GPUs that differ, and what placements may do.
#[derive(Debug, Args)]
pub struct ClusterArgs {
    /// Optimized: let two replicas of an expert share a GPU where that lowers the maximum
    #[arg(long)]
    pub allow_duplicates: bool,

    /// Optimized: spread experts over all nodes even where groups could stay on one
    #[arg(long)]
    pub ignore_groups: bool,

    /// Optimized: detours tried from a placement that no single move improves
    #[arg(long, value_name = "N", default_value_t = OptimizedOptions::default().num_detours)]
    pub detours: usize,

    /// Optimized: slots of each GPU, comma-separated, P numbers; replaces an even share of R
    #[arg(long, value_name = "N,..", value_delimiter = ',')]
    pub gpu_slots: Vec<usize>,

    /// Optimized: relative speed of each GPU, comma-separated, P numbers > 0
    #[arg(long, value_name = "X,..", value_delimiter = ',')]
    pub gpu_speeds: Vec<f64>,

    /// Optimized: GPUs that failed, comma-separated indices from 0; their slots hold -1
    #[arg(long, value_name = "I,..", value_delimiter = ',')]
    pub failed_gpus: Vec<usize>,
}

/// How to move from a placement in use.
#[derive(Debug, Args)]
pub struct MoveArgs {
    /// Placement in use, `[num_layers, R]` expert indices, -1 = empty: JSON
    /// ({"physical_to_logical_map": [[..]]}, as this command prints it, or [[..]])
    #[arg(long, value_name = "FILE", conflicts_with = "trace")]
    pub current: Option<PathBuf>,

    /// Expert transfers at most, over all layers (with --trace: at one interval)
    #[arg(long, value_name = "N")]
    pub max_moves: Option<usize>,

    /// Max/mean load, >= 1, that every layer is to reach with the fewest transfers found
    #[arg(long, value_name = "X", conflicts_with = "max_moves", requires = "current")]
    pub target_balance: Option<f64>,

    /// Bytes of one expert of one layer, weights and scale factors
    #[arg(long, value_name = "BYTES", default_value_t = 44_040_192)]
    pub expert_bytes: u64,

    /// Microseconds that a GPU needs for one token of one expert (one unit of load of one layer)
    #[arg(long, value_name = "US", default_value_t = 0.1)]
    pub us_per_token: f64,

    /// Link between GPUs of a node, one way, in GB/s
    #[arg(long, value_name = "GB/S", default_value_t = 450.0)]
    pub intra_gb_per_s: f64,

    /// Link between GPUs of two nodes, one way, in GB/s
    #[arg(long, value_name = "GB/S", default_value_t = 50.0)]
    pub inter_gb_per_s: f64,
}

/// How to replay a trace.
#[derive(Debug, Args)]
pub struct ReplayArgs {
    /// Steps between two rebalancings
    #[arg(long, value_name = "STEPS", default_value_t = 16)]
    pub interval: usize,

    /// How past steps predict those to come
    #[arg(long, value_enum, default_value_t = EstimatorArg::Mean)]
    pub estimator: EstimatorArg,

    /// Steps that mean and max look back
    #[arg(long, value_name = "STEPS", default_value_t = 16)]
    pub window: usize,

    /// Weight of the past in ema, 0 <= X < 1
    #[arg(long, value_name = "X", default_value_t = 0.9)]
    pub decay: f64,
}

/// The value of `--estimator`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum EstimatorArg {
    /// Exponential moving average
    Ema,
    /// Mean of the last steps
    Mean,
    /// Largest count of the last steps, expert by expert
    Max,
}

impl EplbArgs {
    /// The extents as DeepSeek's policy takes them.
    pub fn params(&self) -> RebalanceParams {
        RebalanceParams {
            num_physical_experts: self.replicas,
            num_expert_groups: self.groups,
            num_nodes: self.nodes,
            num_gpus: self.gpus,
        }
    }

    /// What the searching policies may do.
    pub fn options(&self) -> OptimizedOptions {
        OptimizedOptions {
            allow_duplicates: self.cluster.allow_duplicates,
            ignore_groups: self.cluster.ignore_groups,
            num_detours: self.cluster.detours,
        }
    }

    /// Whether an option says that GPUs differ.
    pub fn gpus_differ(&self) -> bool {
        let ClusterArgs { gpu_slots, gpu_speeds, failed_gpus, .. } = &self.cluster;
        !(gpu_slots.is_empty() && gpu_speeds.is_empty() && failed_gpus.is_empty())
    }

    /// What is asked for, in words.
    pub fn target(&self) -> String {
        match (self.moves.target_balance, self.moves.max_moves) {
            (Some(target), _) => format!("few transfers to max/mean {target}"),
            (_, Some(max_moves)) => format!("at most {max_moves} transfers"),
            _ => self.policy.name().to_owned(),
        }
    }

    /// The GPUs.
    pub fn gpus(&self) -> Result<Cluster> {
        let ClusterArgs { gpu_slots, gpu_speeds, failed_gpus, .. } = &self.cluster;
        let mut cluster = self.params().cluster()?;
        if !gpu_slots.is_empty() {
            cluster = cluster.with_slots(gpu_slots)?;
            if cluster.num_physical_experts() != self.replicas {
                let expected = format!("numbers that add up to --replicas = {}", self.replicas);
                let got = cluster.num_physical_experts();
                return Err(Error::value("eplb", "gpu_slots", expected, got));
            }
        }
        if !gpu_speeds.is_empty() {
            cluster = cluster.with_speeds(gpu_speeds)?;
        }
        cluster.with_failed(failed_gpus)
    }

    /// The links that migrations use.
    pub fn links(&self) -> Result<LinkSpeeds> {
        for (arg, value) in [
            ("intra_gb_per_s", self.moves.intra_gb_per_s),
            ("inter_gb_per_s", self.moves.inter_gb_per_s),
            ("us_per_token", self.moves.us_per_token),
        ] {
            if !(value.is_finite() && value > 0.0) {
                return Err(Error::value("eplb", arg, "finite and > 0", value));
            }
        }
        Ok(LinkSpeeds {
            intra_node_bytes_per_us: self.moves.intra_gb_per_s * 1e3,
            inter_node_bytes_per_us: self.moves.inter_gb_per_s * 1e3,
            ..LinkSpeeds::default()
        })
    }

    /// The estimator of a replay.
    pub fn estimator(&self) -> Estimator {
        let ReplayArgs { estimator, window, decay, .. } = self.replay;
        match estimator {
            EstimatorArg::Ema => Estimator::Exponential { decay },
            EstimatorArg::Mean => Estimator::WindowedMean { window },
            EstimatorArg::Max => Estimator::WindowedMax { window },
        }
    }
}
