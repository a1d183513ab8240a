//! One rank's part: load, run, check, report.

use std::time::Duration;

use moekit::comm::World;
use moekit::moe::cost::RankLoad;
use moekit::moe::tokens::TokenSource;
use moekit::moe::weights::{ExpertMatrices, MoeWeights};
use moekit::moe::{ExpertMap, LayerOptions, MoeLayer, Stage, WireFormat};
use moekit::num::{align, bf16, ceil_div};
use moekit::tensor::Tensor;
use moekit::{Backend, Result};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::args::{BackendArg, MoeArgs};
use super::model::Model;
use super::reference::{Errors, Reference};
use super::report::{Machine, Report};
use crate::checkpoint::DtypeArg;

const OP: &str = "moekit moe";

/// What one rank tells the first.
#[derive(Debug, Serialize, Deserialize)]
pub struct RankReport {
    pub num_tokens: usize,
    /// `[num_steps][num_stages]`, in the order of [`Stage::ALL`]; 0 for a stage that did not run.
    pub stage_us: Vec<Vec<f64>>,
    /// `[num_local_experts]`, of the last step.
    pub num_recv_tokens_per_expert: Vec<i32>,
    pub weight_bytes: usize,
    /// SHA-256 of each token's output.
    pub token_digests: Vec<[u8; 32]>,
    pub errors: Option<Errors>,
}

impl RankReport {
    /// What the rank had to do in a step.
    pub fn load(&self, num_ranks: usize) -> RankLoad {
        let received = self.num_recv_tokens_per_expert.iter();
        RankLoad {
            num_ranks,
            num_tokens: self.num_tokens,
            num_recv_tokens: received.clone().map(|&count| count.max(0) as usize).sum(),
            num_used_experts: received.filter(|&&count| count > 0).count(),
        }
    }
}

/// Runs one rank; collective. The first rank gets the report.
pub fn run(args: &MoeArgs, model: &Model, world: &World) -> Result<Option<Report>> {
    match args.backend {
        BackendArg::Cpu => {
            let cpu = args.cpu()?;
            let simd = cpu.simd().to_string();
            run_on(&cpu, args, model, world, || Machine::processor(simd))
        }
        BackendArg::Cuda => {
            let cuda = args.cuda(world.rank_idx())?;
            let name = cuda.device_name()?;
            run_on(&cuda, args, model, world, || Machine::device(name))
        }
    }
}

fn run_on<B: Backend>(
    backend: &B,
    args: &MoeArgs,
    model: &Model,
    world: &World,
    machine: impl FnOnce() -> Machine,
) -> Result<Option<Report>> {
    let weights = load(args, model, world, backend)?;
    let (format, weight_bytes) = (format_of(&weights), weights.num_bytes());
    let mut run = Run::new(args, model, world, backend, weights)?;
    let x = run.hidden_states(&model.tokens)?;
    let steps = run.steps(args, world, &x)?;
    let out = run.out.to_host(backend)?;

    let reference = Reference { args, model, backend: &args.cpu()?, format };
    let report = RankReport {
        num_tokens: run.num_tokens,
        stage_us: steps.iter().map(|step| stage_us(step)).collect(),
        num_recv_tokens_per_expert: run.layer.num_recv_tokens_per_expert()?,
        weight_bytes,
        token_digests: digests(&out, model.config.hidden),
        errors: reference.errors(run.first_token_idx, &out)?,
    };
    let bytes = serde_json::to_vec(&report)
        .map_err(|error| moekit::Error::io(OP, "report", error.into()))?;
    let all = world.all_gather(OP, &bytes)?;
    if world.rank_idx() != 0 {
        return Ok(None);
    }
    let ranks: Vec<RankReport> = all
        .iter()
        .map(|bytes| serde_json::from_slice(bytes))
        .collect::<Result<_, _>>()
        .map_err(|error| moekit::Error::io(OP, "report", error.into()))?;
    Ok(Some(Report::new(args, model, world, machine(), format, &ranks)))
}

/// Physical experts of all ranks: every logical one once, then unused ones where ranks do not divide them.
fn placement(model: &Model, num_ranks: usize) -> Vec<i32> {
    let num_experts = model.config.gate.num_experts;
    let num_physical = align(num_experts, num_ranks);
    (0..num_experts as i32).chain(std::iter::repeat(-1)).take(num_physical).collect()
}

fn load<B: Backend>(
    args: &MoeArgs,
    model: &Model,
    world: &World,
    backend: &B,
) -> Result<MoeWeights<B>> {
    let spinner = args.output.bar(0, "{spinner} load weights {elapsed}");
    spinner.enable_steady_tick(Duration::from_millis(100));
    let placement = placement(model, world.num_ranks());
    let num_local = placement.len() / world.num_ranks();
    let local = &placement[world.rank_idx() * num_local..][..num_local];
    let weights = model.checkpoint.load_moe_layer(backend, model.layer_idx, local)?;
    let format = match args.dtype {
        Some(DtypeArg::Fp8) => WireFormat::Fp8,
        Some(DtypeArg::Bf16) => WireFormat::Bf16,
        None => format_of(&weights),
    };
    let scale_format = model.checkpoint.config().scale_format();
    let weights = weights.into_format(backend, &backend.stream()?, format, scale_format);
    spinner.finish_and_clear();
    weights
}

fn format_of<B: Backend>(weights: &MoeWeights<B>) -> WireFormat {
    match weights.routed.gate_up {
        ExpertMatrices::Fp8(_) => WireFormat::Fp8,
        ExpertMatrices::Bf16(_) => WireFormat::Bf16,
    }
}

struct Run<'a, B: Backend> {
    backend: &'a B,
    layer: MoeLayer<B>,
    stream: B::Stream,
    /// Position of this rank's first token among all.
    first_token_idx: usize,
    num_tokens: usize,
    hidden: usize,
    out: Tensor<B, bf16, 2>,
}

impl<'a, B: Backend> Run<'a, B> {
    fn new(
        args: &MoeArgs,
        model: &Model,
        world: &World,
        backend: &'a B,
        weights: MoeWeights<B>,
    ) -> Result<Self> {
        let (rank_idx, num_ranks) = (world.rank_idx(), world.num_ranks());
        let map = ExpertMap::new(&placement(model, num_ranks), model.config.gate.num_experts)?;
        let options = LayerOptions {
            num_max_tokens_per_rank: ceil_div(args.num_tokens, num_ranks),
            layout: args.recv_layout(),
            reduce: args.reduce(),
            scale_format: model.checkpoint.config().scale_format(),
            fusion: args.fusion(),
            weighting: args.weighting(),
        };
        let (share, rest) = (args.num_tokens / num_ranks, args.num_tokens % num_ranks);
        let num_tokens = share + usize::from(rank_idx < rest);
        let hidden = model.config.hidden;
        Ok(Self {
            layer: MoeLayer::new(backend, world, model.config.clone(), weights, map, options)?,
            stream: backend.stream()?,
            first_token_idx: rank_idx * share + rank_idx.min(rest),
            num_tokens,
            hidden,
            out: Tensor::zeros(backend, [num_tokens, hidden])?,
            backend,
        })
    }

    fn hidden_states(&self, tokens: &TokenSource) -> Result<Tensor<B, bf16, 2>> {
        let mut x = vec![bf16::ZERO; self.num_tokens * self.hidden];
        tokens.hidden_states(self.first_token_idx, self.hidden, &mut x);
        Tensor::from_host(self.backend, &x, [self.num_tokens, self.hidden])
    }

    /// Runs one step that is not timed, then `args.steps`.
    fn steps(
        &mut self,
        args: &MoeArgs,
        world: &World,
        x: &Tensor<B, bf16, 2>,
    ) -> Result<Vec<Vec<(Stage, Duration)>>> {
        let is_first = world.rank_idx() == 0;
        tracing::info!(rank_idx = world.rank_idx(), pid = std::process::id(), "the steps begin");
        let bar = args.output.bar(args.steps as u64 + 1, "{spinner} step {pos}/{len} {elapsed}");
        let mut steps = Vec::new();
        for step_idx in 0..=args.steps as u64 {
            if is_first {
                bar.set_position(step_idx);
            }
            world.barrier(OP)?;
            self.layer.forward(&self.stream, x.view(), self.out.view_mut())?;
            self.backend.check(&self.stream)?;
            if step_idx > 0 {
                steps.push(self.layer.stage_times()?);
            }
        }
        bar.finish_and_clear();
        Ok(steps)
    }
}

fn stage_us(step: &[(Stage, Duration)]) -> Vec<f64> {
    let time_of = |stage: Stage| {
        let times = step.iter().filter(|(other, _)| *other == stage);
        times.map(|(_, time)| time.as_secs_f64() * 1e6).sum()
    };
    Stage::ALL.into_iter().map(time_of).collect()
}

fn digests(out: &[bf16], hidden: usize) -> Vec<[u8; 32]> {
    out.chunks_exact(hidden)
        .map(|token| Sha256::digest(bytemuck::cast_slice::<_, u8>(token)).into())
        .collect()
}
