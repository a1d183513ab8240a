//! One rank of the benchmarks of gate, plan, dispatch and combine, at DeepSeek-V3's shape.

#![allow(dead_code, reason = "each benchmark uses its part")]

use std::sync::atomic::{AtomicUsize, Ordering};

use moekit::comm::World;
use moekit::moe::combine::{CombineWeights, PendingCombine};
use moekit::moe::dispatch::PendingDispatch;
use moekit::moe::gate::{GateArgs, GateConfig, Scoring};
use moekit::moe::quant::{QuantizeArgs, ScaleFormat};
use moekit::moe::{
    EpBuffer, EpConfig, Handle, RecvLayout, Reduce, Rows, TokensMut, TokensRef, WireFormat,
};
use moekit::num::bf16;
use moekit::tensor::{QuantTensor, ScaleLayout, Tensor};
use moekit::{Backend, Cpu, Result};

pub const NUM_RANKS: usize = 4;
pub const NUM_TOKENS: usize = 4096;
pub const HIDDEN: usize = 7168;
pub const NUM_TOPK: usize = 8;
pub const NUM_EXPERTS: usize = 256;
/// Rows of an expert start at a multiple of this in the contiguous layouts.
const EXPERT_ALIGNMENT: usize = 128;
/// Bytes of a BF16 row.
pub const ROW_BYTES: usize = HIDDEN * size_of::<bf16>();

/// What a rank does at a time.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    Gate,
    DispatchSend,
    Plan,
    DispatchRecv,
    CombineSend,
    CombineRecv,
    /// Dispatch, plan and combine in one go, as in a layer.
    Whole,
}

impl Phase {
    pub const ALL: [Self; 7] = [
        Self::Gate,
        Self::DispatchSend,
        Self::Plan,
        Self::DispatchRecv,
        Self::CombineSend,
        Self::CombineRecv,
        Self::Whole,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Gate => "gate",
            Self::DispatchSend => "dispatch_send",
            Self::Plan => "plan",
            Self::DispatchRecv => "dispatch_recv",
            Self::CombineSend => "combine_send",
            Self::CombineRecv => "combine_recv",
            Self::Whole => "dispatch+combine",
        }
    }
}

/// Receive layouts by their names in the table; room for more than what even routing delivers.
pub fn layouts(num_tokens: usize) -> [(&'static str, RecvLayout); 3] {
    let num_slots = num_tokens * NUM_TOPK;
    [
        ("exact", RecvLayout::Exact { expert_alignment: EXPERT_ALIGNMENT }),
        (
            "capacity",
            RecvLayout::Capacity {
                expert_alignment: EXPERT_ALIGNMENT,
                num_max_recv_rows: 5 * num_slots / 4 + EXPERT_ALIGNMENT * NUM_EXPERTS / NUM_RANKS,
            },
        ),
        ("masked", RecvLayout::Masked { max_m: Some(num_slots / 32 + 64) }),
    ]
}

enum Tokens {
    Bf16(Tensor<Cpu, bf16, 2>),
    Fp8(QuantTensor<Cpu, 2>),
}

impl Tokens {
    fn zeros(cpu: &Cpu, wire: WireFormat, shape: [usize; 2]) -> Result<Self> {
        Ok(match wire {
            WireFormat::Bf16 => Self::Bf16(Tensor::zeros(cpu, shape)?),
            WireFormat::Fp8 => {
                Self::Fp8(QuantTensor::zeros_per_row(cpu, shape, ScaleLayout::RowMajor)?)
            }
        })
    }

    fn view(&self) -> TokensRef<'_, Cpu> {
        match self {
            Self::Bf16(tokens) => TokensRef::Bf16(tokens.view()),
            Self::Fp8(tokens) => TokensRef::Fp8(tokens.view()),
        }
    }

    fn view_mut(&mut self) -> TokensMut<'_, Cpu> {
        match self {
            Self::Bf16(tokens) => TokensMut::Bf16(tokens.view_mut()),
            Self::Fp8(tokens) => TokensMut::Fp8(tokens.view_mut()),
        }
    }
}

pub struct EpRank {
    cpu: Cpu,
    stream: <Cpu as Backend>::Stream,
    gate: GateConfig,
    ep: EpBuffer<Cpu>,
    num_tokens: usize,
    wire: WireFormat,
    logits: Tensor<Cpu, f32, 2>,
    x: Tokens,
    topk_idx: Tensor<Cpu, i32, 2>,
    topk_weights: Tensor<Cpu, f32, 2>,
    rows: Tokens,
    /// The experts' outputs, if `rows` cannot stand for them.
    y: Option<Tensor<Cpu, bf16, 2>>,
    out: Tensor<Cpu, bf16, 2>,
    pending: Option<PendingDispatch<Cpu>>,
    handle: Option<Handle<Cpu>>,
    returning: Option<PendingCombine>,
}

impl EpRank {
    /// Runs every phase once, so that memory is there; collective.
    pub fn new(
        cpu: &Cpu,
        world: &World,
        num_tokens: usize,
        wire: WireFormat,
        layout: RecvLayout,
    ) -> Result<Self> {
        let config = EpConfig {
            num_max_tokens_per_rank: num_tokens,
            hidden: HIDDEN,
            num_topk: NUM_TOPK,
            num_experts: NUM_EXPERTS,
            wire,
            layout,
            reduce: Reduce::BySlot,
        };
        let ep = EpBuffer::new(cpu, world, config)?;
        let seed = 1 + world.rank_idx() as u64;
        let stream = cpu.stream()?;
        let plain = noise(cpu, seed, [num_tokens, HIDDEN])?;
        let x = match wire {
            WireFormat::Bf16 => Tokens::Bf16(plain),
            WireFormat::Fp8 => {
                let shape = [num_tokens, HIDDEN];
                let mut x = QuantTensor::zeros_per_row(cpu, shape, ScaleLayout::RowMajor)?;
                let args =
                    QuantizeArgs::new(plain.view(), x.view_mut(), ScaleFormat::Fp32, Rows::All)?;
                cpu.quantize(&stream, args)?;
                Tokens::Fp8(x)
            }
        };
        let mut random = Lcg(seed);
        let logits: Vec<f32> = (0..num_tokens * NUM_EXPERTS).map(|_| random.next()).collect();
        let mut rank = Self {
            logits: Tensor::from_host(cpu, &logits, [num_tokens, NUM_EXPERTS])?,
            topk_idx: Tensor::zeros(cpu, [num_tokens, NUM_TOPK])?,
            topk_weights: Tensor::zeros(cpu, [num_tokens, NUM_TOPK])?,
            rows: Tokens::zeros(cpu, wire, [0, HIDDEN])?,
            y: None,
            out: Tensor::zeros(cpu, [num_tokens, HIDDEN])?,
            pending: None,
            handle: None,
            returning: None,
            cpu: cpu.clone(),
            gate: gate_config(),
            stream,
            ep,
            num_tokens,
            wire,
            x,
        };
        rank.run(Phase::Gate)?;
        rank.run(Phase::DispatchSend)?;
        rank.run(Phase::Plan)?;
        rank.make_rows(world.num_ranks())?;
        rank.run(Phase::DispatchRecv)?;
        rank.run(Phase::CombineSend)?;
        rank.run(Phase::CombineRecv)?;
        Ok(rank)
    }

    fn make_rows(&mut self, num_ranks: usize) -> Result<()> {
        let pending = self.pending.as_ref().expect("a dispatch was sent");
        let num_rows = match self.ep.config().layout {
            RecvLayout::Exact { .. } => pending.num_recv_rows(&self.ep)?,
            _ => self.ep.config().sizes(num_ranks, num_ranks)?.num_max_recv_rows,
        };
        self.rows = Tokens::zeros(&self.cpu, self.wire, [num_rows, HIDDEN])?;
        if self.wire == WireFormat::Fp8 {
            self.y = Some(noise(&self.cpu, 0, [num_rows, HIDDEN])?);
        }
        Ok(())
    }

    /// Runs a phase; collective. All but the gate follow each other in order.
    pub fn run(&mut self, phase: Phase) -> Result<()> {
        let Self { cpu, stream, ep, .. } = self;
        match phase {
            Phase::Gate => {
                let args = GateArgs::new(
                    self.logits.view(),
                    None,
                    self.gate,
                    self.topk_idx.view_mut(),
                    self.topk_weights.view_mut(),
                )?;
                cpu.gate(stream, args)?;
            }
            Phase::DispatchSend => {
                self.handle = None;
                let (idx, weights) = (self.topk_idx.view(), self.topk_weights.view());
                self.pending = Some(ep.dispatch_send(stream, self.x.view(), idx, weights)?);
            }
            Phase::Plan => {
                let pending = self.pending.as_mut().expect("a dispatch was sent");
                ep.dispatch_plan(stream, pending)?;
            }
            Phase::DispatchRecv => {
                let pending = self.pending.take().expect("a dispatch was planned");
                self.handle = Some(ep.dispatch_recv(stream, pending, self.rows.view_mut())?);
            }
            Phase::CombineSend => {
                let handle = self.handle.as_ref().expect("a dispatch was received");
                let y = match (&self.y, &self.rows) {
                    (Some(y), _) | (None, Tokens::Bf16(y)) => y.view(),
                    (None, Tokens::Fp8(_)) => unreachable!("FP8 rows come with outputs"),
                };
                self.returning =
                    Some(ep.combine_send(stream, handle, y, CombineWeights::Routed)?);
            }
            Phase::CombineRecv => {
                let handle = self.handle.as_ref().expect("a dispatch was received");
                let returning = self.returning.take().expect("a combine was sent");
                ep.combine_recv(stream, handle, returning, None, self.out.view_mut())?;
            }
            Phase::Whole => {
                for phase in Phase::ALL {
                    if !matches!(phase, Phase::Gate | Phase::Whole) {
                        self.run(phase)?;
                    }
                }
            }
        }
        self.cpu.check(&self.stream)
    }

    /// Bytes that this rank's part of a phase has to read and to write: each input and each output once.
    ///
    /// A token that arrives counts once as read, however many of this rank's experts it goes to, and
    /// once as written for each of them. A row that returns is read and written, then read by its owner
    /// when it adds. Routing counts in gate and plan alone.
    pub fn num_bytes(&self, phase: Phase) -> Result<usize> {
        let token_bytes = token_bytes(self.wire);
        let num_slots = self.num_tokens * NUM_TOPK;
        let slot_bytes = size_of::<i32>() + size_of::<f32>();
        let received = self.received()?;
        Ok(match phase {
            Phase::Gate => {
                self.num_tokens * NUM_EXPERTS * size_of::<f32>() + num_slots * slot_bytes
            }
            Phase::DispatchSend => 2 * self.num_tokens * token_bytes,
            Phase::Plan => NUM_RANKS * num_slots * slot_bytes,
            Phase::DispatchRecv => (received.num_tokens + received.num_rows) * token_bytes,
            Phase::CombineSend => 2 * received.num_rows * ROW_BYTES,
            Phase::CombineRecv => (num_slots + self.num_tokens) * ROW_BYTES,
            Phase::Whole => {
                let parts = Phase::ALL
                    .into_iter()
                    .filter(|&phase| !matches!(phase, Phase::Gate | Phase::Plan | Phase::Whole));
                parts.map(|phase| self.num_bytes(phase)).sum::<Result<usize>>()?
            }
        })
    }

    pub fn received(&self) -> Result<Received> {
        let handle = self.handle.as_ref().expect("a dispatch was received");
        let src_info = handle.src_info().to_host(&self.cpu)?;
        let sources = src_info.iter().filter(|&&slot| slot >= 0);
        let mut tokens: Vec<i32> = sources.map(|slot| slot / NUM_TOPK as i32).collect();
        let num_rows = tokens.len();
        tokens.sort_unstable();
        tokens.dedup();
        let per_rank = |src: usize| {
            tokens.iter().filter(|&&token| token as usize / self.num_tokens == src).count()
        };
        let num_tokens_from = std::array::from_fn(per_rank);
        let row_is_from = |slot: i32, src: usize| slot as usize / self.num_tokens / NUM_TOPK == src;
        let rows_from = |src: usize| {
            src_info.iter().filter(|&&slot| slot >= 0 && row_is_from(slot, src)).count()
        };
        let num_rows_from = std::array::from_fn(rows_from);
        Ok(Received { num_rows, num_tokens: tokens.len(), num_tokens_from, num_rows_from })
    }
}

/// Bytes of a token on the wire.
pub fn token_bytes(wire: WireFormat) -> usize {
    match wire {
        WireFormat::Bf16 => ROW_BYTES,
        WireFormat::Fp8 => HIDDEN + HIDDEN / 128 * size_of::<f32>(),
    }
}

/// What a rank received.
pub struct Received {
    /// One for each (token, expert of this rank).
    pub num_rows: usize,
    /// One for each token with an expert on this rank.
    pub num_tokens: usize,
    pub num_tokens_from: [usize; NUM_RANKS],
    pub num_rows_from: [usize; NUM_RANKS],
}

fn gate_config() -> GateConfig {
    GateConfig {
        num_experts: NUM_EXPERTS,
        num_topk: NUM_TOPK,
        scoring: Scoring::Sigmoid,
        num_expert_groups: 8,
        num_topk_groups: 4,
        renormalize: true,
        routed_scaling_factor: 2.5,
    }
}

struct Lcg(u64);

impl Lcg {
    /// From -2 to 2.
    fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        (self.0 >> 40) as f32 / (1 << 22) as f32 - 2.0
    }
}

/// Fills every page, for untouched ones are not read from memory.
fn noise(cpu: &Cpu, seed: u64, shape: [usize; 2]) -> Result<Tensor<Cpu, bf16, 2>> {
    let mut tensor = Tensor::zeros(cpu, shape)?;
    let mut random = Lcg(seed);
    let few: Vec<bf16> = (0..1 << 16).map(|_| bf16::from_f32(random.next())).collect();
    for chunk in tensor.view_mut().as_mut_span().chunks_mut(few.len()) {
        chunk.copy_from_slice(&few[..chunk.len()]);
    }
    Ok(tensor)
}

/// What all ranks of a process share in one benchmark: which phase runs.
#[derive(Default)]
pub struct Command(AtomicUsize);

impl Command {
    pub fn set(&self, phase: Option<Phase>) {
        let idx = phase.and_then(|phase| Phase::ALL.iter().position(|&other| other == phase));
        self.0.store(idx.unwrap_or(Phase::ALL.len()), Ordering::Release);
    }

    pub fn phase(&self) -> Option<Phase> {
        Phase::ALL.get(self.0.load(Ordering::Acquire)).copied()
    }
}
