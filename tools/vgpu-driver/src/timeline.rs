//! Timelines of launches as JSON: appended to the file of `VGPU_TIMELINE`, a line each.

use serde_json::{Value, json};
use vgpu::Launch;
use vgpu::timeline::{Owner, TensorUse, Timeline, Track};

use crate::lines;
use crate::settings::settings;

/// Whether launches are to have a timeline.
pub fn are_wanted() -> bool {
    settings().timeline_file.is_some()
}

/// Writes a launch's timeline down.
pub fn record(kernel: &str, device: usize, launch: &Launch, timeline: &Timeline) {
    let Some(path) = &settings().timeline_file else { return };
    let fields = json!({
        "kernel": kernel,
        "process": std::process::id(),
        "device": device,
        "grid": launch.grid,
        "block": launch.block,
        "cluster": launch.cluster,
        "summary": summary(timeline),
        "tracks": timeline.tracks.iter().map(track).collect::<Vec<_>>(),
    });
    lines::append("VGPU_TIMELINE", path, &fields);
}

/// Cycles, and the use of the tensor cores if there are products.
pub fn summary(timeline: &Timeline) -> Value {
    json!({ "cycles": timeline.cycles, "tensor": timeline.tensor_use().map(tensor) })
}

fn tensor(tensor: TensorUse) -> Value {
    json!({
        "cycles": tensor.cycles,
        "busy": tensor.busy,
        "behind": tensor.behind,
        "hidden": tensor.hidden,
    })
}

fn track(track: &Track) -> Value {
    let owner = match track.owner {
        Owner::Warp(warp) => format!("warp {warp}"),
        Owner::TensorCore(core) => format!("tensor core {core}"),
        Owner::Copies => "copies".to_owned(),
    };
    let spans = track.spans.iter().map(|span| {
        json!({
            "what": span.what.name(),
            "start": span.start,
            "end": span.end,
            "warp": span.warp,
            "line": span.line,
        })
    });
    json!({ "block": track.block, "owner": owner, "spans": spans.collect::<Vec<_>>() })
}
