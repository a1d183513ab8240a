//! Counts of launches as JSON: appended to the file of `VGPU_COUNTS`, a line each, and kept for the
//! program if it asks.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use serde_json::{Value, json};
use vgpu::{Launch, Report, Tally};

use crate::context::lock;
use crate::settings::settings;
use crate::{lines, timeline};

/// The program wants to be told.
static ARE_KEPT: AtomicBool = AtomicBool::new(false);
/// Launches that were counted and that nobody has taken.
static KEPT: Mutex<Vec<Value>> = Mutex::new(Vec::new());

/// Whether launches are to be counted from now on.
pub fn are_wanted() -> bool {
    settings().counts_file.is_some() || ARE_KEPT.load(Ordering::Relaxed)
}

/// Begins or ends keeping counts for the program; what was kept so far is dropped.
pub fn keep(are_kept: bool) {
    ARE_KEPT.store(are_kept, Ordering::Relaxed);
    lock(&KEPT).clear();
}

/// Hands `take` a JSON array of what was kept, and drops that if `take` says so.
pub fn with_kept<T>(take: impl FnOnce(&str) -> (T, bool)) -> T {
    let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    let (result, is_taken) = take(&Value::from(kept.clone()).to_string());
    if is_taken {
        kept.clear();
    }
    result
}

/// Writes a launch's counts down.
pub fn record(kernel: &str, device: usize, launch: &Launch, report: &Report) {
    let Some(counts) = &report.counts else { return };
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let lines = counts.lines.iter().map(|((file, line), tally)| {
        let mut fields = json!({ "file": file, "line": line });
        merge(&mut fields, to_json(tally));
        fields
    });
    let mut fields = json!({
        "kernel": kernel,
        "process": std::process::id(),
        "device": device,
        "launch": NUMBER.fetch_add(1, Ordering::Relaxed),
        "grid": launch.grid,
        "block": launch.block,
        "cluster": launch.cluster,
        "dynamic_shared_bytes": launch.dynamic_shared_bytes,
        "timeline": report.timeline.as_ref().map(timeline::summary),
        "lines": lines.collect::<Vec<_>>(),
    });
    merge(&mut fields, to_json(&counts.total));
    if let Some(path) = &settings().counts_file {
        lines::append("VGPU_COUNTS", path, &fields);
    }
    if ARE_KEPT.load(Ordering::Relaxed) {
        lock(&KEPT).push(fields);
    }
}

fn merge(fields: &mut Value, more: Value) {
    if let (Some(fields), Value::Object(more)) = (fields.as_object_mut(), more) {
        fields.extend(more);
    }
}

fn to_json(tally: &Tally) -> Value {
    let bytes = tally.bytes.iter().map(|(place, bytes)| {
        ((*place).to_owned(), json!({ "read": bytes.read, "written": bytes.written }))
    });
    json!({
        "instructions": tally.instructions,
        "classes": tally.classes,
        "bytes": bytes.collect::<serde_json::Map<_, _>>(),
        "global_requests": tally.global_requests,
        "global_sectors": tally.global_sectors,
        "coalescing": tally.coalescing(),
        "shared_requests": tally.shared_requests,
        "shared_passes": tally.shared_passes,
        "bank_conflicts": tally.bank_conflicts,
        "copied_bytes": tally.copied_bytes,
        "bulk": {
            "read": tally.bulk.read,
            "written": tally.bulk.written,
            "shared": tally.bulk.shared,
            "sectors": tally.bulk.sectors,
        },
        "macs": tally.macs,
        "retries": tally.retries,
        "polls": tally.polls,
    })
}
