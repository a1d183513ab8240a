//! The format of Chrome's tracer, which Perfetto reads too: blocks are processes, tracks are threads.

use serde_json::{Value, json};

use super::items;

pub fn trace(launches: &[Value]) -> Value {
    let mut events = Vec::new();
    let mut num_blocks = 0;
    for (number, launch) in launches.iter().enumerate() {
        let mut blocks: Vec<&Value> = Vec::new();
        for (thread, track) in items(&launch["tracks"]).enumerate() {
            let block = &track["block"];
            if !blocks.contains(&block) {
                blocks.push(block);
                num_blocks += 1;
                let kernel = launch["kernel"].as_str().unwrap_or("?");
                let name = format!("launch {number}, {kernel}, block {block}");
                events.push(name_of("process_name", num_blocks, 0, &name));
            }
            let name = track["owner"].as_str().unwrap_or("?");
            events.push(name_of("thread_name", num_blocks, thread, name));
            for span in items(&track["spans"]) {
                let (start, end) = (span["start"].as_u64(), span["end"].as_u64());
                let (Some(start), Some(end)) = (start, end) else { continue };
                // Copies overlap: each is a slice of its own.
                events.push(json!({
                    "ph": "X", "pid": num_blocks, "tid": thread, "ts": start, "dur": end - start,
                    "name": span["what"], "args": { "warp": span["warp"], "line": span["line"] },
                }));
            }
        }
    }
    json!({ "traceEvents": events })
}

fn name_of(what: &str, process: usize, thread: usize, name: &str) -> Value {
    json!({ "ph": "M", "pid": process, "tid": thread, "name": what, "args": { "name": name } })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_processes_and_tracks_are_threads() {
        let span = json!({ "what": "run", "start": 3, "end": 8, "warp": 1, "line": 20 });
        let track =
            |block: u32| json!({ "block": [block, 0, 0], "owner": "warp 1", "spans": [span] });
        let launch = json!({ "kernel": "k", "tracks": [track(0), track(1)] });
        let trace = trace(&[launch]);
        let slices: Vec<&Value> =
            items(&trace["traceEvents"]).filter(|it| it["ph"] == "X").collect();
        assert_eq!(slices.len(), 2);
        assert_eq!((&slices[1]["pid"], &slices[1]["ts"]), (&json!(2), &json!(3)));
        assert_eq!((&slices[1]["dur"], &slices[1]["name"]), (&json!(5), &json!("run")));
    }
}
