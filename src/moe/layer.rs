//! The MoE layer: the whole flow, stage by stage. Read this file first.
//!
//! ```text
//! x ─ gate ─┬─ dispatch send ······ ranks ······ plan ─ dispatch recv ─┐
//!           └─ quantise ─ shared expert (while tokens travel)          │
//!                               │                                      ▼
//! out ◄─ combine recv ◄─ ranks ◄┴─ combine send ◄─ down ◄─ SwiGLU ◄─ gate_up
//! ```

use std::time::Duration;

use super::buffer::EpBuffer;
use super::dispatch::PendingDispatch;
use super::ep_config::{EpConfig, RecvLayout, Reduce, WireFormat};
use super::ffn::{Ffn, Grouping, wire_format};
use super::gate::GateArgs;
use super::handle::Handle;
use super::plan::RowLayout;
use super::quant::{QuantizeArgs, ScaleFormat};
use super::stages::{Stage, StageTimes};
use super::weights::{MoeConfig, MoeWeights};
use super::workspace::Workspace;
use super::{ExpertMap, Fusion, OP, Rows, TokensRef, Weighting};
use crate::backend::Backend;
use crate::comm::World;
use crate::error::Result;
use crate::gemm::{GemmOut, bf16_gemm_nt};
use crate::num::bf16;
use crate::tensor::{Tensor, TensorMut, TensorRef, check};

/// How a layer runs; equal on all ranks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LayerOptions {
    /// Capacity in tokens of each rank and step.
    pub num_max_tokens_per_rank: usize,
    /// How received rows lie.
    pub layout: RecvLayout,
    /// How combine adds.
    pub reduce: Reduce,
    /// Form of activation scales in FP8.
    pub scale_format: ScaleFormat,
    /// Whether the routed experts' first product takes its activation along.
    pub fusion: Fusion,
    /// Which stage multiplies by the routing weights.
    pub weighting: Weighting,
}

impl LayerOptions {
    pub(super) fn ep_config(
        &self,
        config: &MoeConfig,
        wire: WireFormat,
        num_physical_experts: usize,
    ) -> EpConfig {
        EpConfig {
            num_max_tokens_per_rank: self.num_max_tokens_per_rank,
            hidden: config.hidden,
            num_topk: config.gate.num_topk,
            num_experts: num_physical_experts,
            wire,
            layout: self.layout,
            reduce: self.reduce,
        }
    }
}

/// One rank's MoE layer: weights, buffers, and the flow over them.
///
/// The number format is that of the routed experts' weights: FP8 weights mean FP8 activations on the
/// wire and in the products, BF16 weights mean BF16 throughout.
///
/// # Examples
///
/// One step over two ranks, each of which loads its half of the experts.
///
/// ```
/// use moekit::checkpoint::{Checkpoint, GenerateOptions, generate};
/// use moekit::comm::{World, WorldOptions};
/// use moekit::moe::quant::ScaleFormat;
/// use moekit::moe::{ExpertMap, Fusion, LayerOptions, MoeLayer, RecvLayout, Reduce, Weighting};
/// use moekit::num::bf16;
/// use moekit::tensor::Tensor;
/// use moekit::{Backend, Cpu};
///
/// # let dir = std::env::temp_dir().join(format!("moekit-layer-{}", std::process::id()));
/// # let mut options = GenerateOptions::default();
/// # options.config.hidden_size = 128;
/// # options.config.moe_intermediate_size = 128;
/// # options.config.n_routed_experts = 8;
/// # options.config.num_experts_per_tok = 2;
/// # generate(&dir, &options, &|_| ())?;
/// # let folder = dir.clone();
/// let outputs = World::run_threads(2, WorldOptions::default(), move |world| {
///     let checkpoint = Checkpoint::open(&dir)?;
///     let config = checkpoint.moe_config(0)?;
///     let (cpu, map) = (Cpu::new(), ExpertMap::identity(config.gate.num_experts));
///     let own = map.physical_to_logical().chunks(4).nth(world.rank_idx()).unwrap_or_default();
///     let weights = checkpoint.load_moe_layer(&cpu, 0, own)?;
///     let options = LayerOptions {
///         num_max_tokens_per_rank: 16,
///         layout: RecvLayout::Exact { expert_alignment: 1 },
///         reduce: Reduce::BySlot,
///         scale_format: ScaleFormat::Fp32,
///         fusion: Fusion::Off,
///         weighting: Weighting::Combine,
///     };
///     let hidden = config.hidden;
///     let mut layer = MoeLayer::new(&cpu, &world, config, weights, map, options)?;
///     let x = Tensor::from_host(&cpu, &vec![bf16::ONE; 3 * hidden], [3, hidden])?;
///     let mut out = Tensor::zeros(&cpu, [3, hidden])?;
///     let stream = cpu.stream()?;
///     layer.forward(&stream, x.view(), out.view_mut())?;
///     cpu.check(&stream)?;
///     world.close()?;
///     out.to_host(&cpu)
/// })?;
/// let [first, second] = <[_; 2]>::try_from(outputs).map_err(|_| "two ranks")?;
/// assert_eq!(first?, second?, "equal tokens give equal outputs on every rank");
/// # std::fs::remove_dir_all(&folder).ok();
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct MoeLayer<B: Backend> {
    backend: B,
    config: MoeConfig,
    options: LayerOptions,
    weights: MoeWeights<B>,
    ep: EpBuffer<B>,
    workspace: Workspace<B>,
    times: StageTimes<B>,
    /// Routing of the last step.
    handle: Option<Handle<B>>,
}

impl<B: Backend> MoeLayer<B> {
    /// Allocates the layer's buffers; collective.
    ///
    /// `expert_map` says which physical experts `weights.routed` holds: those of this rank, in order.
    ///
    /// # Errors
    ///
    /// Those of [`MoeConfig::check`], [`MoeWeights::check`], [`EpBuffer::new`]; [`crate::Error::Value`] if
    /// the routed experts' two matrices differ in number format, or [`Fusion::On`] is asked of experts that it is
    /// not for (and [`crate::Error::Alignment`]).
    pub fn new(
        backend: &B,
        world: &World,
        config: MoeConfig,
        weights: MoeWeights<B>,
        expert_map: ExpertMap,
        options: LayerOptions,
    ) -> Result<Self> {
        config.check()?;
        let wire = wire_format(&weights.routed)?;
        if let Some(shared) = &weights.shared {
            wire_format(shared)?;
        }
        options.fusion.check(wire, config.intermediate_hidden)?;
        let ep_config = options.ep_config(&config, wire, expert_map.num_physical_experts());
        let mut ep = EpBuffer::new(backend, world, ep_config)?;
        weights.check(&config, ep.topology().num_local_experts())?;
        ep.set_expert_map(expert_map)?;
        ep.set_row_weights(options.weighting == Weighting::Down);
        let workspace = Workspace::new(backend, &config, &weights, options, &ep)?;
        Ok(Self {
            backend: backend.clone(),
            config,
            options,
            weights,
            ep,
            workspace,
            times: StageTimes::default(),
            handle: None,
        })
    }

    /// Runs one step: `out = sum over chosen experts of weight * expert(x) + shared(x)`; collective.
    ///
    /// # Shapes
    ///
    /// | name | dtype | shape | layout |
    /// | --- | --- | --- | --- |
    /// | `x` | BF16 | `[num_tokens, hidden]` | rows contiguous |
    /// | `out` | BF16 | `[num_tokens, hidden]` | rows contiguous, overwritten |
    ///
    /// # Numerics
    ///
    /// Those of the stages. With [`Reduce::BySlot`] a token's bits depend on that token and the
    /// weights alone: not on other tokens, the number of ranks, the layout or the world.
    ///
    /// # Errors
    ///
    /// [`crate::Error::Shape`], [`crate::Error::Stride`], [`crate::Error::Capacity`] unless the tensors are as stated and fit
    /// the options; [`crate::Error::Timeout`], [`crate::Error::PeerDied`]; faults in values at [`Backend::check`].
    pub fn forward(
        &mut self,
        stream: &B::Stream,
        x: TensorRef<'_, B, bf16, 2>,
        out: TensorMut<'_, B, bf16, 2>,
    ) -> Result<()> {
        let num_tokens = self.check_step(&x, &out)?;
        // Its memory serves this step.
        self.handle = None;
        self.times.start(&self.backend, stream)?;

        self.gate(stream, x)?;
        self.quantize(stream, x)?;
        let pending = self.dispatch_send(stream, x)?;
        self.shared_expert(stream, x)?;
        let handle = self.dispatch_recv(stream, pending)?;
        self.experts(stream, &handle)?;

        let num_rows = self.workspace.rows.num_rows();
        let y = self.workspace.rows.ffn.y.first_rows(num_rows)?;
        let pending =
            self.ep.combine_send(stream, &handle, y, self.options.weighting.of_combine())?;
        self.times.end(&self.backend, stream, Stage::CombineSend)?;
        let shared = self.workspace.shared.as_ref();
        let shared = shared.map(|shared| shared.y.first_rows(num_tokens)).transpose()?;
        self.ep.combine_recv(stream, &handle, pending, shared, out)?;
        self.handle = Some(handle);
        self.times.end(&self.backend, stream, Stage::CombineRecv)
    }

    /// Logits in FP32, then experts and weights of each token.
    fn gate(&mut self, stream: &B::Stream, x: TensorRef<'_, B, bf16, 2>) -> Result<()> {
        let num_tokens = x.shape()[0];
        let memory = &mut self.workspace;
        let logits = GemmOut::F32(memory.logits.first_rows_mut(num_tokens)?);
        bf16_gemm_nt(&self.backend, stream, x, self.weights.gate.view(), logits)?;
        self.times.end(&self.backend, stream, Stage::Logits)?;
        let args = GateArgs::new(
            memory.logits.first_rows(num_tokens)?,
            self.weights.gate_bias.as_ref().map(Tensor::view),
            self.config.gate,
            memory.topk_idx.first_rows_mut(num_tokens)?,
            memory.topk_weights.first_rows_mut(num_tokens)?,
        )?;
        self.backend.gate(stream, args)?;
        self.times.end(&self.backend, stream, Stage::Gate)
    }

    /// FP8 form of the tokens, for the wire and the shared expert; nothing to do in BF16.
    fn quantize(&mut self, stream: &B::Stream, x: TensorRef<'_, B, bf16, 2>) -> Result<()> {
        let Some(quantized) = &mut self.workspace.x else { return Ok(()) };
        let out = quantized.first_rows_mut(x.shape()[0])?;
        let args = QuantizeArgs::new(x, out, self.options.scale_format, Rows::All)?;
        self.backend.quantize(stream, args)?;
        self.times.end(&self.backend, stream, Stage::Quantize)
    }

    fn dispatch_send(
        &mut self,
        stream: &B::Stream,
        x: TensorRef<'_, B, bf16, 2>,
    ) -> Result<PendingDispatch<B>> {
        let num_tokens = x.shape()[0];
        let tokens = match &self.workspace.x {
            Some(quantized) => TokensRef::Fp8(quantized.first_rows(num_tokens)?),
            None => TokensRef::Bf16(x),
        };
        let topk_idx = self.workspace.topk_idx.first_rows(num_tokens)?;
        let topk_weights = self.workspace.topk_weights.first_rows(num_tokens)?;
        let pending = self.ep.dispatch_send(stream, tokens, topk_idx, topk_weights)?;
        self.times.end(&self.backend, stream, Stage::DispatchSend)?;
        Ok(pending)
    }

    /// The shared expert sees every token of this rank; it runs while tokens travel.
    fn shared_expert(&mut self, stream: &B::Stream, x: TensorRef<'_, B, bf16, 2>) -> Result<()> {
        let (Some(weights), Some(memory)) = (&self.weights.shared, &mut self.workspace.shared)
        else {
            return Ok(());
        };
        let num_tokens = x.shape()[0];
        let x = match &self.workspace.x {
            Some(quantized) => TokensRef::Fp8(quantized.first_rows(num_tokens)?),
            None => TokensRef::Bf16(x),
        };
        let ffn = Ffn {
            backend: &self.backend,
            stream,
            weights,
            limit: self.config.swiglu_limit,
            scale_format: self.options.scale_format,
            grouping: Grouping::One,
            weighting: Weighting::Combine,
        };
        ffn.gate_up(x, memory, num_tokens)?;
        ffn.swiglu(memory, num_tokens)?;
        ffn.down(memory, num_tokens)?;
        self.times.end(&self.backend, stream, Stage::SharedExpert)
    }

    fn dispatch_recv(
        &mut self,
        stream: &B::Stream,
        mut pending: PendingDispatch<B>,
    ) -> Result<Handle<B>> {
        self.ep.dispatch_plan(stream, &mut pending)?;
        self.times.end(&self.backend, stream, Stage::Plan)?;
        if let RecvLayout::Exact { .. } = self.options.layout {
            let num_rows = pending.num_recv_rows(&self.ep)?;
            self.workspace.rows.resize(&self.backend, num_rows)?;
        }
        let rows = self.workspace.rows.x_mut()?;
        let handle = self.ep.dispatch_recv(stream, pending, rows)?;
        self.times.end(&self.backend, stream, Stage::DispatchRecv)?;
        Ok(handle)
    }

    /// The routed experts on the received rows.
    fn experts(&mut self, stream: &B::Stream, handle: &Handle<B>) -> Result<()> {
        let rows = &mut self.workspace.rows;
        let num_rows = rows.num_rows();
        let ffn = Ffn {
            backend: &self.backend,
            stream,
            weights: &self.weights.routed,
            limit: self.config.swiglu_limit,
            scale_format: self.options.scale_format,
            grouping: match handle.row_layout() {
                RowLayout::Contiguous { .. } => Grouping::Contiguous(handle),
                RowLayout::Masked { .. } => Grouping::Masked(handle),
            },
            weighting: self.options.weighting,
        };
        let x = rows.x.first_rows(num_rows)?;
        let is_activated = ffn.gate_up_fused(x, &mut rows.ffn, num_rows, self.options.fusion)?;
        if !is_activated {
            ffn.gate_up(x, &mut rows.ffn, num_rows)?;
        }
        self.times.end(&self.backend, stream, Stage::GateUp)?;
        if !is_activated {
            ffn.swiglu(&mut rows.ffn, num_rows)?;
            self.times.end(&self.backend, stream, Stage::Swiglu)?;
        }
        ffn.down(&mut rows.ffn, num_rows)?;
        self.times.end(&self.backend, stream, Stage::Down)?;
        Ok(())
    }

    /// Time of each stage of the last step; waits for it.
    ///
    /// # Errors
    ///
    /// Those of the driver.
    pub fn stage_times(&self) -> Result<Vec<(Stage, Duration)>> {
        self.times.durations(&self.backend)
    }

    /// Tokens that each of this rank's physical experts received in the last step; waits for it.
    ///
    /// # Errors
    ///
    /// Those of the driver.
    pub fn num_recv_tokens_per_expert(&self) -> Result<Vec<i32>> {
        match &self.handle {
            Some(handle) => handle.num_recv_tokens_per_expert().to_host(&self.backend),
            None => Ok(vec![0; self.ep.topology().num_local_experts()]),
        }
    }

    /// The configuration.
    pub fn config(&self) -> &MoeConfig {
        &self.config
    }

    /// The weights.
    pub fn weights(&self) -> &MoeWeights<B> {
        &self.weights
    }

    /// The expert-parallel buffer, to set its rank mask or expert map.
    pub fn ep_mut(&mut self) -> &mut EpBuffer<B> {
        &mut self.ep
    }

    fn check_step(
        &self,
        x: &TensorRef<'_, B, bf16, 2>,
        out: &TensorMut<'_, B, bf16, 2>,
    ) -> Result<usize> {
        let num_tokens = x.shape()[0];
        let shape = [num_tokens, self.config.hidden];
        check::shape(OP, "x", &shape, &x.shape())?;
        check::contiguous_rows(OP, "x", x.layout())?;
        check::shape(OP, "out", &shape, &out.shape())?;
        let capacity = self.options.num_max_tokens_per_rank;
        check::capacity(OP, "num_max_tokens_per_rank", num_tokens, capacity, "tokens")?;
        Ok(num_tokens)
    }
}
