//! One dispatch and combine, half by half, for tests of ranks that fail in between.

use moekit::comm::World;
use moekit::moe::combine::CombineWeights;
use moekit::moe::dispatch::{TokensMut, TokensRef};
use moekit::moe::{EpBuffer, EpConfig, RecvLayout, Reduce, WireFormat};
use moekit::num::bf16;
use moekit::tensor::Tensor;
use moekit::{Backend, Cpu, Result};

/// The halves of a step, in order.
pub const HALVES: [&str; 5] =
    ["dispatch_send", "dispatch_plan", "dispatch_recv", "combine_send", "combine_recv"];

const HIDDEN: usize = 32;
const NUM_TOKENS: usize = 8;
const MAX_M: usize = 64;

/// A buffer, and tokens that go to every rank.
pub struct Step {
    cpu: Cpu,
    stream: <Cpu as Backend>::Stream,
    ep: EpBuffer<Cpu>,
    x: Tensor<Cpu, bf16, 2>,
    topk_idx: Tensor<Cpu, i32, 2>,
    topk_weights: Tensor<Cpu, f32, 2>,
    rows: Tensor<Cpu, bf16, 2>,
    out: Tensor<Cpu, bf16, 2>,
}

impl Step {
    /// Allocates the buffer; collective.
    pub fn new(world: &World) -> Result<Self> {
        let (cpu, num_ranks) = (Cpu::new(), world.num_ranks());
        let config = EpConfig {
            num_max_tokens_per_rank: NUM_TOKENS,
            hidden: HIDDEN,
            num_topk: 2,
            num_experts: num_ranks,
            wire: WireFormat::Bf16,
            layout: RecvLayout::Masked { max_m: Some(MAX_M) },
            reduce: Reduce::BySlot,
        };
        let slots = (0..NUM_TOKENS).flat_map(|token| [token, token + 1]);
        let topk_idx: Vec<i32> = slots.map(|slot| (slot % num_ranks) as i32).collect();
        Ok(Self {
            stream: cpu.stream()?,
            ep: EpBuffer::new(&cpu, world, config)?,
            x: Tensor::from_host(&cpu, &[bf16::ONE; NUM_TOKENS * HIDDEN], [NUM_TOKENS, HIDDEN])?,
            topk_idx: Tensor::from_host(&cpu, &topk_idx, [NUM_TOKENS, 2])?,
            topk_weights: Tensor::from_host(&cpu, &[0.5; NUM_TOKENS * 2], [NUM_TOKENS, 2])?,
            rows: Tensor::zeros(&cpu, [MAX_M, HIDDEN])?,
            out: Tensor::zeros(&cpu, [NUM_TOKENS, HIDDEN])?,
            cpu,
        })
    }

    /// Runs the halves before `end`.
    pub fn run_until(&mut self, end: &str) -> Result<()> {
        let (stream, ep) = (&self.stream, &mut self.ep);
        if end == HALVES[0] {
            return Ok(());
        }
        let x = TokensRef::Bf16(self.x.view());
        let (topk_idx, topk_weights) = (self.topk_idx.view(), self.topk_weights.view());
        let mut pending = ep.dispatch_send(stream, x, topk_idx, topk_weights)?;
        if end == HALVES[1] {
            return Ok(());
        }
        ep.dispatch_plan(stream, &mut pending)?;
        if end == HALVES[2] {
            return Ok(());
        }
        let rows = TokensMut::Bf16(self.rows.view_mut());
        let handle = ep.dispatch_recv(stream, pending, rows)?;
        if end == HALVES[3] {
            return Ok(());
        }
        let pending = ep.combine_send(stream, &handle, self.rows.view(), CombineWeights::Routed)?;
        if end == HALVES[4] {
            return Ok(());
        }
        ep.combine_recv(stream, &handle, pending, None, self.out.view_mut())
    }

    /// Runs steps until a rank fails.
    pub fn run(&mut self) -> Result<()> {
        let ones = vec![bf16::ONE; NUM_TOKENS * HIDDEN];
        loop {
            self.run_until("")?;
            self.cpu.check(&self.stream)?;
            assert_eq!(self.out.to_host(&self.cpu)?, ones, "a whole step has whole results");
        }
    }
}
