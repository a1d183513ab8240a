//! The overlapped chunk: one chunk's forward against another's backward on two streams.

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};

use crate::pipeline::times::not_negative;
use crate::pipeline::{OpKind, StageTimes};
use crate::{Error, Result};

const OP: &str = "pipeline overlap";

/// Most layers of a pp_stage that [`overlap`] takes.
const MAX_NUM_LAYERS: usize = 4096;

/// Times of one layer's four parts for one chunk, in µs.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct LayerTimes {
    /// Attention, with everything else that runs before the dispatch.
    pub attn_us: f64,
    /// All-to-all to the experts; backward, of the gradients from them.
    pub dispatch_us: f64,
    /// Experts.
    pub mlp_us: f64,
    /// All-to-all from the experts; backward, of the gradients to them.
    pub combine_us: f64,
}

/// Times of one layer's weight gradients for one chunk, in µs.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct WeightTimes {
    /// Of the attention.
    pub attn_us: f64,
    /// Of the experts.
    pub mlp_us: f64,
}

/// A pp_stage's layers, and how the SMs are split while a forward and a backward overlap.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct OverlapSpec {
    /// Layers of a pp_stage.
    pub num_layers: usize,
    /// Forward, computation on all SMs.
    pub forward: LayerTimes,
    /// Backward for inputs, computation on all SMs.
    pub backward: LayerTimes,
    /// Backward for weights, computation on all SMs.
    pub weights: WeightTimes,
    /// SMs of the device.
    pub num_sms: u32,
    /// SMs that communication has while it overlaps computation.
    pub num_comm_sms: u32,
    /// SMs with which communication reaches the times given; 0 = it needs none (copy engines).
    pub num_saturating_sms: u32,
}

/// Where an operation runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Stream {
    /// Attention, experts, weight gradients.
    Compute,
    /// Dispatch and combine.
    Comm,
}

/// One operation of an overlapped chunk.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct OverlapSpan {
    /// `attn`, `dispatch`, `mlp` or `combine`.
    pub name: &'static str,
    /// F, I or W.
    pub pass: OpKind,
    /// Stream that it runs on.
    pub stream: Stream,
    /// Layer within the pp_stage.
    pub layer_idx: usize,
    /// Start, in µs.
    pub start_us: f64,
    /// End, in µs.
    pub end_us: f64,
}

/// An overlapped chunk in time.
#[derive(Clone, Debug, PartialEq)]
pub struct Overlap {
    /// F, B and W without overlap, on all SMs; F&B with it.
    pub times: StageTimes,
    /// SMs that communication has in F&B.
    pub num_comm_sms: u32,
    /// Time in which the compute stream is busy, in µs.
    pub compute_us: f64,
    /// Time in which the communication stream is busy, in µs.
    pub comm_us: f64,
    /// No order is shorter: the longer of the busier stream and of each chunk's own chain, in µs.
    pub lower_bound_us: f64,
    /// All operations by start.
    pub spans: Vec<OverlapSpan>,
}

/// Overlaps the forward of one chunk with the full backward of another.
///
/// Forward: attention, dispatch, experts, combine, layer by layer. Backward: the same in reverse,
/// each weight gradient any time after its input gradient. Computation and communication run on a
/// stream each; a stream takes, of the operations that are ready, the one with the longest way
/// still to go, or the first of one chunk, or of the other: whichever of the three orders ends
/// first.
///
/// Computation takes `num_sms / (num_sms - num_comm_sms)` times as long as on all SMs,
/// communication `max(1, num_saturating_sms / num_comm_sms)` times.
///
/// # Errors
///
/// [`Error::Value`] for a time that is negative or not finite, unless
/// `1 <= num_layers <= 4096`, `num_comm_sms < num_sms`, and `num_comm_sms >= 1` if
/// `num_saturating_sms >= 1`.
///
/// # Source
///
/// DeepSeek-V3 Technical Report, section 3.2.1, figure 4. Differs: the order follows from the
/// times, and the exchange between pp_stages is left to [`simulate`](crate::pipeline::simulate).
pub fn overlap(spec: &OverlapSpec) -> Result<Overlap> {
    spec.validate()?;
    let ops = spec.ops();
    let orders = [Order::LongestWay, Order::ForwardFirst, Order::BackwardFirst];
    let mut best: Option<(f64, Vec<(f64, f64)>)> = None;
    for order in orders {
        let times = list_schedule(&ops, order);
        let end_us = times.iter().map(|(_, end_us)| *end_us).fold(0.0, f64::max);
        if best.as_ref().is_none_or(|(best_us, _)| end_us < *best_us) {
            best = Some((end_us, times));
        }
    }
    let (fb_us, times) = best.expect("there are three orders");
    let sum_on =
        |stream| ops.iter().filter(|op| op.stream == stream).map(|op| op.duration_us).sum::<f64>();
    let (compute_us, comm_us) = (sum_on(Stream::Compute), sum_on(Stream::Comm));
    let longest_chain_us = ops.iter().map(|op| op.way_us).fold(0.0, f64::max);
    let mut spans: Vec<OverlapSpan> = ops
        .iter()
        .zip(times)
        .map(|(op, (start_us, end_us))| OverlapSpan {
            name: op.name,
            pass: op.pass,
            stream: op.stream,
            layer_idx: op.layer_idx,
            start_us,
            end_us,
        })
        .collect();
    spans.sort_by(|a, b| a.start_us.total_cmp(&b.start_us));
    Ok(Overlap {
        times: StageTimes { fb_us, ..spec.times_apart() },
        num_comm_sms: spec.num_comm_sms,
        compute_us,
        comm_us,
        lower_bound_us: compute_us.max(comm_us).max(longest_chain_us),
        spans,
    })
}

/// Returns the overlap with the number of communication SMs that makes F&B shortest, the fewest
/// of equals; `spec.num_comm_sms` is not read.
///
/// # Errors
///
/// As [`overlap`], and [`Error::Value`] unless `2 <= num_sms <= 1024`.
pub fn best_overlap(spec: &OverlapSpec) -> Result<Overlap> {
    if !(2..=1024).contains(&spec.num_sms) {
        return Err(Error::value(OP, "num_sms", "2 to 1024", spec.num_sms));
    }
    let first = u32::from(spec.num_saturating_sms > 0);
    let mut best = overlap(&OverlapSpec { num_comm_sms: first, ..*spec })?;
    // NOTE: more than saturates communication only slows computation, and yet the orders may end sooner.
    for num_comm_sms in first + 1..spec.num_sms {
        let candidate = overlap(&OverlapSpec { num_comm_sms, ..*spec })?;
        if candidate.times.fb_us < best.times.fb_us {
            best = candidate;
        }
    }
    Ok(best)
}

impl OverlapSpec {
    fn validate(&self) -> Result<()> {
        let LayerTimes { attn_us, dispatch_us, mlp_us, combine_us } = self.forward;
        let backward = self.backward;
        for (arg, time_us) in [
            ("forward.attn_us", attn_us),
            ("forward.dispatch_us", dispatch_us),
            ("forward.mlp_us", mlp_us),
            ("forward.combine_us", combine_us),
            ("backward.attn_us", backward.attn_us),
            ("backward.dispatch_us", backward.dispatch_us),
            ("backward.mlp_us", backward.mlp_us),
            ("backward.combine_us", backward.combine_us),
            ("weights.attn_us", self.weights.attn_us),
            ("weights.mlp_us", self.weights.mlp_us),
        ] {
            not_negative(arg, time_us)?;
        }
        if !(1..=MAX_NUM_LAYERS).contains(&self.num_layers) {
            let expected = format!("1 to {MAX_NUM_LAYERS}");
            return Err(Error::value(OP, "num_layers", expected, self.num_layers));
        }
        if self.num_comm_sms >= self.num_sms {
            let expected = format!("less than num_sms = {}", self.num_sms);
            return Err(Error::value(OP, "num_comm_sms", expected, self.num_comm_sms));
        }
        if self.num_comm_sms == 0 && self.num_saturating_sms > 0 {
            return Err(Error::value(OP, "num_comm_sms", "at least 1", 0));
        }
        Ok(())
    }

    /// Returns F, B and W of the whole pp_stage without overlap; F&B is their sum.
    fn times_apart(&self) -> StageTimes {
        let sum = |times: &LayerTimes| {
            times.attn_us + times.dispatch_us + times.mlp_us + times.combine_us
        };
        let num_layers = self.num_layers as f64;
        let w_us = (self.weights.attn_us + self.weights.mlp_us) * num_layers;
        let f_us = sum(&self.forward) * num_layers;
        let b_us = sum(&self.backward) * num_layers + w_us;
        StageTimes { f_us, b_us, w_us, fb_us: f_us + b_us }
    }

    /// Returns both chunks' operations, each after the one that it waits for.
    fn ops(&self) -> Vec<PlannedOp> {
        use Stream::{Comm, Compute};
        let (num_sms, num_comm_sms) = (f64::from(self.num_sms), f64::from(self.num_comm_sms));
        let compute_factor = num_sms / (num_sms - num_comm_sms);
        let comm_factor = match self.num_saturating_sms {
            0 => 1.0,
            saturating => (f64::from(saturating) / num_comm_sms).max(1.0),
        };
        let mut ops = Vec::with_capacity(10 * self.num_layers);
        let mut push = |name, pass, stream, layer_idx, time_us: f64, after| {
            let factor = if stream == Compute { compute_factor } else { comm_factor };
            let duration_us = time_us * factor;
            ops.push(PlannedOp { name, pass, stream, layer_idx, duration_us, after, way_us: 0.0 });
            Some(ops.len() - 1)
        };
        let mut last = None;
        let times = &self.forward;
        for layer_idx in 0..self.num_layers {
            last = push("attn", OpKind::F, Compute, layer_idx, times.attn_us, last);
            last = push("dispatch", OpKind::F, Comm, layer_idx, times.dispatch_us, last);
            last = push("mlp", OpKind::F, Compute, layer_idx, times.mlp_us, last);
            last = push("combine", OpKind::F, Comm, layer_idx, times.combine_us, last);
        }
        let (times, weights) = (&self.backward, &self.weights);
        last = None;
        for layer_idx in (0..self.num_layers).rev() {
            last = push("combine", OpKind::I, Comm, layer_idx, times.combine_us, last);
            last = push("mlp", OpKind::I, Compute, layer_idx, times.mlp_us, last);
            push("mlp", OpKind::W, Compute, layer_idx, weights.mlp_us, last);
            last = push("dispatch", OpKind::I, Comm, layer_idx, times.dispatch_us, last);
            last = push("attn", OpKind::I, Compute, layer_idx, times.attn_us, last);
            push("attn", OpKind::W, Compute, layer_idx, weights.attn_us, last);
        }
        for op_idx in (0..ops.len()).rev() {
            ops[op_idx].way_us += ops[op_idx].duration_us;
            if let Some(after) = ops[op_idx].after {
                ops[after].way_us = ops[after].way_us.max(ops[op_idx].way_us);
            }
        }
        ops
    }
}

struct PlannedOp {
    name: &'static str,
    pass: OpKind,
    stream: Stream,
    layer_idx: usize,
    duration_us: f64,
    /// Operation that must end before.
    after: Option<usize>,
    /// Longest chain from its start to the end of the chunk.
    way_us: f64,
}

#[derive(Clone, Copy)]
enum Order {
    LongestWay,
    ForwardFirst,
    BackwardFirst,
}

impl Order {
    /// Compares two ready operations, the better one first.
    fn compare(self, ops: &[PlannedOp], a: usize, b: usize) -> Ordering {
        let is_forward = |op_idx: usize| ops[op_idx].pass == OpKind::F;
        let by_way = ops[b].way_us.total_cmp(&ops[a].way_us).then(a.cmp(&b));
        match self {
            Self::LongestWay => by_way,
            Self::ForwardFirst => is_forward(b).cmp(&is_forward(a)).then(by_way),
            Self::BackwardFirst => is_forward(a).cmp(&is_forward(b)).then(by_way),
        }
    }
}

/// Runs both streams, neither idle while it has something ready; returns starts and ends.
fn list_schedule(ops: &[PlannedOp], order: Order) -> Vec<(f64, f64)> {
    let mut times: Vec<Option<(f64, f64)>> = vec![None; ops.len()];
    let mut waiting: Vec<Vec<usize>> = vec![Vec::new(); ops.len()];
    let mut ready: [Vec<usize>; 2] = [Vec::new(), Vec::new()];
    let stream_idx = |op_idx: usize| usize::from(ops[op_idx].stream == Stream::Comm);
    for (op_idx, op) in ops.iter().enumerate() {
        match op.after {
            Some(after) => waiting[after].push(op_idx),
            None => ready[stream_idx(op_idx)].push(op_idx),
        }
    }
    let mut running: [Option<usize>; 2] = [None; 2];
    let mut now_us = 0.0;
    loop {
        for stream in 0..2 {
            if running[stream].is_none() && !ready[stream].is_empty() {
                ready[stream].sort_by(|a, b| order.compare(ops, *a, *b));
                let op_idx = ready[stream].remove(0);
                times[op_idx] = Some((now_us, now_us + ops[op_idx].duration_us));
                running[stream] = Some(op_idx);
            }
        }
        let end_of = |op_idx: usize| times[op_idx].map_or(0.0, |(_, end_us)| end_us);
        let ends = running.iter().flatten().map(|op_idx| end_of(*op_idx));
        let Some(next_us) = ends.min_by(f64::total_cmp) else { break };
        now_us = next_us;
        for slot in &mut running {
            let Some(op_idx) = slot.filter(|op_idx| end_of(*op_idx) <= now_us) else { continue };
            *slot = None;
            for released in &waiting[op_idx] {
                ready[stream_idx(*released)].push(*released);
            }
        }
    }
    times.into_iter().map(|time| time.expect("every operation should have run")).collect()
}
