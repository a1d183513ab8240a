//! Chrome-trace JSON, which Perfetto and chrome://tracing open.

use serde_json::{Value, json};

use super::describe;
use crate::pipeline::memory::activations_alive;
use crate::pipeline::{Op, Overlap, Schedule, Simulation, Stream};

/// Process ids of the trace: one for the ranks, one for the inside of an overlapped chunk.
const RANKS_PID: u32 = 0;
const OVERLAP_PID: u32 = 1;

/// Returns a simulated schedule as a Chrome trace.
///
/// A thread is a rank, an event an operation with its chunks and pp_stages; arrows are messages
/// between ranks, counters the activations alive (all kept until W).
///
/// # Units
///
/// µs, as the format wants.
///
/// # Source
///
/// "Trace Event Format" (Google): events `M`, `X`, `s`, `f`, `C`.
pub fn chrome_trace(schedule: &Schedule, simulation: &Simulation) -> Value {
    let title = format!(
        "{}: {} ranks, {} chunks",
        schedule.name(),
        schedule.num_pp_ranks(),
        schedule.num_chunks()
    );
    let mut events = vec![name_event("process_name", RANKS_PID, 0, &title)];
    for (rank_idx, ops) in schedule.ranks().iter().enumerate() {
        events.push(name_event("thread_name", RANKS_PID, rank_idx, &format!("rank {rank_idx}")));
        let alive = activations_alive(ops, 1.0);
        for ((op, span), num_activations) in ops.iter().zip(&simulation.spans[rank_idx]).zip(alive)
        {
            events.push(json!({
                "ph": "X", "pid": RANKS_PID, "tid": rank_idx,
                "name": op_name(*op), "cat": category(*op),
                "ts": span.start_us, "dur": span.end_us - span.start_us,
                "args": {
                    "op": op.to_string(),
                    "chunks": op.parts().map(|(_, cell)| cell.chunk_idx).collect::<Vec<_>>(),
                    "pp_stages": op.parts().map(|(_, cell)| cell.pp_stage_idx).collect::<Vec<_>>(),
                },
            }));
            events.push(json!({
                "ph": "C", "pid": RANKS_PID, "name": format!("activations of rank {rank_idx}"),
                "ts": span.start_us, "args": {"alive": num_activations},
            }));
        }
    }
    for (transfer_idx, transfer) in simulation.transfers.iter().enumerate() {
        let (src, dst) = (transfer.src, transfer.dst);
        let (sent, needed) = (simulation.spans[src.0][src.1], simulation.spans[dst.0][dst.1]);
        // Arrows bind to the events that enclose their ends, so they start just inside.
        let midway = |start: f64, end: f64| 0.5 * (start + end);
        events.push(json!({
            "ph": "s", "pid": RANKS_PID, "tid": src.0, "id": transfer_idx, "name": "message",
            "cat": "message", "ts": midway(sent.start_us, sent.end_us),
        }));
        events.push(json!({
            "ph": "f", "bp": "e", "pid": RANKS_PID, "tid": dst.0, "id": transfer_idx,
            "name": "message", "cat": "message", "ts": midway(needed.start_us, needed.end_us),
        }));
    }
    json!({"displayTimeUnit": "ms", "traceEvents": events})
}

/// Returns the events of an overlapped chunk, two threads of a process beside the ranks, to be
/// added to a trace's `traceEvents`.
pub fn overlap_events(overlap: &Overlap) -> Vec<Value> {
    let title = format!("overlapped chunk, {} SMs communicate", overlap.num_comm_sms);
    let mut events = vec![
        name_event("process_name", OVERLAP_PID, 0, &title),
        name_event("thread_name", OVERLAP_PID, 0, "computation"),
        name_event("thread_name", OVERLAP_PID, 1, "communication"),
    ];
    events.extend(overlap.spans.iter().map(|span| {
        json!({
            "ph": "X", "pid": OVERLAP_PID, "tid": u32::from(span.stream == Stream::Comm),
            "name": format!("{}({})", span.name, span.pass.letter()), "cat": "overlap", "ts": span.start_us,
            "dur": span.end_us - span.start_us, "args": {"layer": span.layer_idx},
        })
    }));
    events
}

fn name_event(name: &str, pid: u32, tid: usize, value: &str) -> Value {
    json!({"ph": "M", "pid": pid, "tid": tid, "name": name, "args": {"name": value}})
}

fn op_name(op: Op) -> String {
    let parts = op.parts().map(|(kind, cell)| {
        format!("{}{} chunk {}", kind.letter(), cell.direction, cell.chunk_idx)
    });
    parts.collect::<Vec<_>>().join(" & ")
}

fn category(op: Op) -> &'static str {
    match op {
        Op::Single(kind, _) => describe(kind),
        Op::Overlapped { .. } => "overlapped",
    }
}
