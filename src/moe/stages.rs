//! The layer's stages, and when each began and ended.

use std::time::Duration;

use crate::backend::Backend;
use crate::error::Result;

/// A stage of [`super::layer::MoeLayer::forward`], in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stage {
    /// The router's product.
    Logits,
    /// Experts and weights from the logits.
    Gate,
    /// Tokens to FP8.
    Quantize,
    /// Publishing tokens.
    DispatchSend,
    /// The shared expert, while tokens travel.
    SharedExpert,
    /// Waiting for the ranks' routing, and planning rows.
    Plan,
    /// Filling rows.
    DispatchRecv,
    /// First grouped product; with its activation where that is fused.
    GateUp,
    /// Activation and requantisation; none where it is fused.
    Swiglu,
    /// Second grouped product.
    Down,
    /// Returning rows.
    CombineSend,
    /// Waiting for rows, and adding them.
    CombineRecv,
}

impl Stage {
    /// Every stage, in the order of the flow.
    pub const ALL: [Self; 12] = [
        Self::Logits,
        Self::Gate,
        Self::Quantize,
        Self::DispatchSend,
        Self::SharedExpert,
        Self::Plan,
        Self::DispatchRecv,
        Self::GateUp,
        Self::Swiglu,
        Self::Down,
        Self::CombineSend,
        Self::CombineRecv,
    ];

    /// Name in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Logits => "logits",
            Self::Gate => "gate",
            Self::Quantize => "quantize",
            Self::DispatchSend => "dispatch_send",
            Self::SharedExpert => "shared_expert",
            Self::Plan => "plan",
            Self::DispatchRecv => "dispatch_recv",
            Self::GateUp => "gate_up",
            Self::Swiglu => "swiglu",
            Self::Down => "down",
            Self::CombineSend => "combine_send",
            Self::CombineRecv => "combine_recv",
        }
    }
}

/// Events at the ends of one step's stages.
pub(crate) struct StageTimes<B: Backend> {
    start: Option<B::Event>,
    ends: Vec<(Stage, B::Event)>,
}

impl<B: Backend> Default for StageTimes<B> {
    fn default() -> Self {
        Self { start: None, ends: Vec::with_capacity(Stage::ALL.len()) }
    }
}

impl<B: Backend> StageTimes<B> {
    /// Forgets the step before and marks the start of this one.
    pub fn start(&mut self, backend: &B, stream: &B::Stream) -> Result<()> {
        self.ends.clear();
        self.start = Some(backend.record(stream)?);
        Ok(())
    }

    /// Marks the end of a stage.
    pub fn end(&mut self, backend: &B, stream: &B::Stream, stage: Stage) -> Result<()> {
        self.ends.push((stage, backend.record(stream)?));
        Ok(())
    }

    /// Time of each stage that ran; waits for the last.
    pub fn durations(&self, backend: &B) -> Result<Vec<(Stage, Duration)>> {
        let mut before = self.start.as_ref();
        let mut durations = Vec::with_capacity(self.ends.len());
        for (stage, end) in &self.ends {
            if let Some(start) = before.replace(end) {
                durations.push((*stage, backend.elapsed(start, end)?));
            }
        }
        Ok(durations)
    }
}
