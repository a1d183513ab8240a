//! `moekit checkpoint`: generate one, show one.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand, ValueEnum};
use moekit::Result;
use moekit::checkpoint::{
    Checkpoint, GenerateOptions, Generated, ModelConfig, ScoringFunc, TensorEntry, WeightDtype,
    generate,
};
use serde::Serialize;

use crate::output::OutputArgs;

/// Checkpoints in DeepSeek-V3's format: config.json and safetensors files.
#[derive(Debug, Args)]
pub struct CheckpointArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Write a checkpoint of seeded weights; a folder that another program wrote is refused
    Generate(GenerateArgs),
    /// List what a checkpoint holds
    Show(ShowArgs),
}

#[derive(Debug, Args)]
struct GenerateArgs {
    /// Folder to write
    #[arg(long, value_name = "DIR")]
    out: PathBuf,

    #[command(flatten)]
    shape: ShapeArgs,

    /// Number format of the experts
    #[arg(long, value_enum, default_value_t = DtypeArg::Fp8)]
    dtype: DtypeArg,

    /// Layers of the model
    #[arg(long, value_name = "L", default_value_t = 1)]
    num_layers: usize,

    /// Bytes of a file at most
    #[arg(long, value_name = "BYTES", default_value_t = moekit::checkpoint::DEFAULT_MAX_SHARD_BYTES)]
    max_shard_bytes: u64,

    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, Args)]
struct ShowArgs {
    /// Folder with config.json and safetensors files
    dir: PathBuf,

    #[command(flatten)]
    output: OutputArgs,
}

/// Number format of weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum DtypeArg {
    /// E4M3 with FP32 scales of 128 x 128 blocks
    Fp8,
    /// BF16
    Bf16,
}

/// The shape and seed of generated layers.
#[derive(Debug, Clone, Args)]
pub struct ShapeArgs {
    /// Elements of a token, a multiple of 16
    #[arg(long, value_name = "N", default_value_t = 2048)]
    hidden: usize,

    /// Width of one expert, a multiple of 16
    #[arg(long, value_name = "N", default_value_t = 1024)]
    intermediate_hidden: usize,

    /// Routed experts
    #[arg(long, value_name = "N", default_value_t = 64)]
    num_experts: usize,

    /// Experts per token
    #[arg(long, value_name = "K", default_value_t = 8)]
    num_topk: usize,

    /// Shared experts
    #[arg(long, value_name = "N", default_value_t = 1)]
    num_shared_experts: usize,

    /// Groups of experts; a token chooses from half of them. Default: 8 where they can hold its
    /// experts, else 1
    #[arg(long, value_name = "N")]
    num_expert_groups: Option<usize>,

    /// Clamp of SwiGLU's inputs, as newer DeepSeek models have. Default: none
    #[arg(long, value_name = "X")]
    swiglu_limit: Option<f32>,

    /// Seed of all weights
    #[arg(long, value_name = "SEED", default_value_t = 0)]
    pub seed: u64,
}

impl ShapeArgs {
    /// What [`generate`] needs for `num_layers` such layers.
    pub fn options(&self, dtype: DtypeArg, num_layers: usize) -> GenerateOptions {
        let experts_fit =
            self.num_experts.is_multiple_of(8) && self.num_topk <= self.num_experts / 2;
        let num_groups = self.num_expert_groups.unwrap_or(if experts_fit { 8 } else { 1 });
        let config = ModelConfig {
            hidden_size: self.hidden,
            moe_intermediate_size: self.intermediate_hidden,
            n_routed_experts: self.num_experts,
            n_shared_experts: Some(self.num_shared_experts),
            num_experts_per_tok: self.num_topk,
            n_group: Some(num_groups),
            topk_group: Some(num_groups.div_ceil(2)),
            num_hidden_layers: num_layers,
            scoring_func: ScoringFunc::Sigmoid,
            swiglu_limit: self.swiglu_limit,
            ..GenerateOptions::default().config
        };
        let dtype = match dtype {
            DtypeArg::Fp8 => WeightDtype::Fp8,
            DtypeArg::Bf16 => WeightDtype::Bf16,
        };
        GenerateOptions { config, seed: self.seed, dtype, ..GenerateOptions::default() }
    }
}

/// Runs the command.
pub fn run(args: &CheckpointArgs) -> Result<()> {
    match &args.action {
        Action::Generate(args) => {
            let max_shard_bytes = args.max_shard_bytes;
            let options = args.shape.options(args.dtype, args.num_layers);
            let options = GenerateOptions { max_shard_bytes, ..options };
            let generated = generate_with_bar(&args.out, &options, args.output)?;
            args.output.print(&generated, |generated| {
                let files = generated.files.len();
                format!(
                    "{}: {} tensors, {} in {files} {}",
                    args.out.display(),
                    generated.num_tensors,
                    megabytes(generated.num_bytes),
                    if files == 1 { "file" } else { "files" }
                )
            })
        }
        Action::Show(args) => {
            let checkpoint = Checkpoint::open(&args.dir)?;
            let listing = Listing { config: checkpoint.config(), tensors: checkpoint.tensors()? };
            args.output.print(&listing, Listing::text)
        }
    }
}

/// Generates a checkpoint and shows how far it is.
pub fn generate_with_bar(
    dir: &Path,
    options: &GenerateOptions,
    output: OutputArgs,
) -> Result<Generated> {
    let bar = output.bar(0, "generate {wide_bar} {bytes}/{total_bytes} {bytes_per_sec}");
    let generated = generate(dir, options, &|progress| {
        bar.set_length(progress.total_bytes);
        bar.set_position(progress.num_bytes);
    })?;
    bar.finish_and_clear();
    Ok(generated)
}

#[derive(Serialize)]
struct Listing<'a> {
    config: &'a ModelConfig,
    tensors: Vec<TensorEntry>,
}

impl Listing<'_> {
    fn text(&self) -> String {
        let config = self.config;
        let mut text = format!(
            "layers with experts: {:?}; {} experts of {} x {}, {} per token, {} shared\n",
            config.moe_layers(),
            config.n_routed_experts,
            config.hidden_size,
            config.moe_intermediate_size,
            config.num_experts_per_tok,
            config.n_shared_experts.unwrap_or(0),
        );
        for tensor in &self.tensors {
            let TensorEntry { name, dtype, shape, num_bytes, file } = tensor;
            let shape = format!("{shape:?}");
            text += &format!("{name:<64} {dtype:<8} {shape:<16} {num_bytes:>12} {file}\n");
        }
        let total: u64 = self.tensors.iter().map(|tensor| tensor.num_bytes).sum();
        text + &format!("{} tensors, {}\n", self.tensors.len(), megabytes(total))
    }
}

fn megabytes(num_bytes: u64) -> String {
    format!("{:.1} MB", num_bytes as f64 / 1e6)
}
