//! The arguments of `moekit moe`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use moekit::backend::SimdLevel;
use moekit::backend::cuda::Cuda;
use moekit::comm::WorldOptions;
use moekit::moe::tokens::{TextSplit, TokenSource};
use moekit::moe::{Fusion, RecvLayout, Reduce, Weighting};
use moekit::{Cpu, Error, Result};

use crate::checkpoint::{DtypeArg, ShapeArgs};
use crate::output::OutputArgs;

/// Days of steps; every one is remembered.
const MAX_STEPS: usize = 1_000_000_000;

/// Run one MoE layer over many ranks: gate, dispatch, experts, combine.
///
/// Prints the time, traffic and arithmetic of each stage beside this machine's limits, the load of the
/// experts, the error against an f64 reference, and a digest of the output that is the same for any number
/// of ranks in either world.
#[derive(Debug, Clone, Args)]
pub struct MoeArgs {
    /// Checkpoint in DeepSeek-V3's format: a folder with config.json and safetensors files. Default:
    /// one is generated for this run, of the shape below
    #[arg(long, value_name = "DIR", conflicts_with_all = [
        "hidden", "intermediate_hidden", "num_experts", "num_topk", "num_shared_experts",
        "num_expert_groups", "swiglu_limit",
    ])]
    pub checkpoint: Option<PathBuf>,

    /// Layer of the checkpoint. Default: the first that has experts
    #[arg(long, value_name = "N", requires = "checkpoint")]
    pub layer: Option<usize>,

    /// Shape of a generated layer; with --checkpoint, --seed is that of the tokens alone
    #[command(flatten)]
    pub shape: ShapeArgs,

    /// Where the layer runs
    #[arg(long, value_enum, default_value_t = BackendArg::Cpu)]
    pub backend: BackendArg,

    /// CUDA device of the first rank; each further rank takes the next one, and after the last the first.
    /// Default: 0
    #[arg(long, value_name = "N")]
    pub device: Option<usize>,

    /// How ranks run
    #[arg(long, value_enum, default_value_t = WorldArg::Threads)]
    pub world: WorldArg,

    /// Ranks. Default: 4 threads, or as many processes as mpirun started
    #[arg(long, value_name = "N")]
    pub ranks: Option<usize>,

    /// Treat every N ranks of a machine as a node of its own: between nodes, tokens go in messages
    #[arg(long, value_name = "N")]
    pub ranks_per_node: Option<usize>,

    /// UTF-8 text whose words become tokens, or "random"
    #[arg(long, value_name = "FILE|random", default_value = "random")]
    pub tokens: PathBuf,

    /// What counts as a token of the text
    #[arg(long, value_enum, default_value_t = SplitArg::Words)]
    pub split: SplitArg,

    /// Tokens of all ranks together; a shorter text starts over
    #[arg(long, value_name = "N", default_value_t = 4096)]
    pub num_tokens: usize,

    /// Number format of the experts and of tokens between ranks. Default: that of the checkpoint, or FP8
    #[arg(long, value_enum)]
    pub dtype: Option<DtypeArg>,

    /// How received rows lie
    #[arg(long, value_enum, default_value_t = LayoutArg::Contiguous)]
    pub layout: LayoutArg,

    /// Contiguous layout: each expert's rows start at a multiple of this
    #[arg(long, value_name = "ROWS", default_value_t = 1)]
    pub expert_alignment: usize,

    /// Whether the experts' first product takes its activation along, in FP8: the same bits
    #[arg(long, value_enum, default_value_t = FusionArg::Off)]
    pub fusion: FusionArg,

    /// Which stage multiplies the experts' outputs by their routing weights
    #[arg(long, value_enum, default_value_t = WeightingArg::Combine)]
    pub weighting: WeightingArg,

    /// How combine adds the experts' outputs
    #[arg(long, value_enum, default_value_t = ReduceArg::Slot)]
    pub reduce: ReduceArg,

    /// Steps to time, after one that is not timed; the fastest is reported
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub steps: usize,

    /// Tokens to check against the f64 reference; 0 = none
    #[arg(long, value_name = "N", default_value_t = 16)]
    pub check_tokens: usize,

    /// Processor instructions to use. Default: the best there are
    #[arg(long, value_enum)]
    pub simd: Option<SimdArg>,

    /// Seconds that a rank waits for another before it gives up
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    pub timeout: u64,

    #[command(flatten)]
    pub output: OutputArgs,
}

/// Where the layer runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum BackendArg {
    /// This processor
    Cpu,
    /// CUDA devices; tokens travel between ranks through the host's memory
    Cuda,
}

/// How ranks run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum WorldArg {
    /// Threads of this process
    Threads,
    /// Processes that mpirun started
    Mpi,
}

/// What counts as a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SplitArg {
    /// Every byte
    Bytes,
    /// Every word and every sign
    Words,
}

/// How received rows lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LayoutArg {
    /// One expert's rows after another's
    Contiguous,
    /// Room for all tokens in every expert
    Masked,
}

/// How combine adds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ReduceArg {
    /// By slot: the same bits for any number of ranks
    Slot,
    /// Within each rank first: fewer bytes, bits that depend on the ranks
    Rank,
}

/// Whether product and activation are one stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum FusionArg {
    /// Two stages
    Off,
    /// One where it should take less time
    WherePays,
    /// One; an intermediate width that is a multiple of 128
    On,
}

/// Which stage multiplies by the routing weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum WeightingArg {
    /// Combine, as it adds them
    Combine,
    /// The second product, before it rounds: errors of the same size, other bits
    Down,
}

/// Processor instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SimdArg {
    /// AVX-512 with VNNI
    Avx512,
    /// AVX2 with FMA
    Avx2,
    /// What every processor has
    Portable,
}

impl MoeArgs {
    /// The processor.
    pub fn cpu(&self) -> Result<Cpu> {
        match self.simd {
            None => Ok(Cpu::new()),
            Some(SimdArg::Avx512) => Cpu::with_simd(SimdLevel::Avx512),
            Some(SimdArg::Avx2) => Cpu::with_simd(SimdLevel::Avx2),
            Some(SimdArg::Portable) => Cpu::with_simd(SimdLevel::Portable),
        }
    }

    /// A rank's CUDA device.
    pub fn cuda(&self, rank_idx: usize) -> Result<Cuda> {
        let num_devices = Cuda::num_devices()?;
        let first = self.device.unwrap_or(0);
        if first >= num_devices {
            let expected = format!("less than {num_devices}, the devices that there are");
            return Err(Error::value("moekit moe", "--device", expected, first));
        }
        Cuda::new((first + rank_idx) % num_devices)
    }

    /// How the ranks wait and group.
    pub fn world_options(&self) -> WorldOptions {
        WorldOptions {
            timeout: Duration::from_secs(self.timeout),
            ranks_per_node: self.ranks_per_node,
        }
    }

    /// Where tokens come from.
    pub fn token_source(&self) -> Result<TokenSource> {
        if self.tokens.as_os_str() == "random" {
            return Ok(TokenSource::noise(self.shape.seed));
        }
        let split = match self.split {
            SplitArg::Bytes => TextSplit::Bytes,
            SplitArg::Words => TextSplit::Words,
        };
        TokenSource::read(&self.tokens, split, self.shape.seed)
    }

    /// How received rows lie.
    pub fn recv_layout(&self) -> RecvLayout {
        match self.layout {
            LayoutArg::Contiguous => RecvLayout::Exact { expert_alignment: self.expert_alignment },
            LayoutArg::Masked => RecvLayout::Masked { max_m: None },
        }
    }

    /// Whether product and activation are one stage.
    pub fn fusion(&self) -> Fusion {
        match self.fusion {
            FusionArg::Off => Fusion::Off,
            FusionArg::WherePays => Fusion::WherePays,
            FusionArg::On => Fusion::On,
        }
    }

    /// Which stage multiplies by the routing weights.
    pub fn weighting(&self) -> Weighting {
        match self.weighting {
            WeightingArg::Combine => Weighting::Combine,
            WeightingArg::Down => Weighting::Down,
        }
    }

    /// How combine adds.
    pub fn reduce(&self) -> Reduce {
        match self.reduce {
            ReduceArg::Slot => Reduce::BySlot,
            ReduceArg::Rank => Reduce::ByRank,
        }
    }

    /// Refuses counts that make no run.
    pub fn check(&self) -> Result<()> {
        let positive = [
            ("--num-tokens", self.num_tokens),
            ("--ranks", self.ranks.unwrap_or(1)),
            ("--steps", self.steps),
            ("--timeout", self.timeout as usize),
        ];
        for (arg, value) in positive {
            if value == 0 {
                return Err(Error::value("moekit moe", arg, "at least 1", 0));
            }
        }
        match (self.backend, self.device, self.simd) {
            (BackendArg::Cpu, Some(device), _) => {
                return Err(Error::value("moekit moe", "--device", "--backend cuda", device));
            }
            (BackendArg::Cuda, _, Some(simd)) => {
                let simd = simd.to_possible_value();
                let got = simd.map_or_else(String::new, |simd| simd.get_name().to_owned());
                return Err(Error::value("moekit moe", "--simd", "--backend cpu", got));
            }
            _ => {}
        }
        if self.steps > MAX_STEPS {
            let expected = format!("at most {MAX_STEPS}");
            return Err(Error::value("moekit moe", "--steps", expected, self.steps));
        }
        Ok(())
    }
}
