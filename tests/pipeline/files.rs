//! Schedules in files: they read back, and nothing in them makes the reader or checker panic.

use std::path::Path;

use moekit::pipeline::{Costs, Limits, Schedule, ScheduleKind, StageTimes, check, simulate};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::strategies::cases;

fn parse(json: &str) -> moekit::Result<Schedule> {
    Schedule::from_json(json, Path::new("own.json"))
}

fn refusal(json: &Value) -> String {
    parse(&json.to_string()).expect_err("the file is wrong").to_string()
}

proptest! {
    #[test]
    fn a_written_schedule_reads_back(case in cases()) {
        let schedule = case.schedule();
        let read = parse(&schedule.to_json().to_string()).expect("parse");
        prop_assert_eq!(read.ranks(), schedule.ranks());
        prop_assert_eq!(read.placement(), schedule.placement());
        prop_assert_eq!(read.num_chunks(), schedule.num_chunks());
    }

    #[test]
    fn without_chunks_the_reader_counts_as_the_generators_do(case in cases()) {
        let schedule = case.schedule();
        let is_interleaved = schedule.placement().name() == "interleaved";
        prop_assume!(!is_interleaved);
        let mut json = schedule.to_json();
        for rank in json["ranks"].as_array_mut().expect("ranks") {
            let rank = rank.as_object_mut().expect("rank");
            rank.remove("chunks");
            rank.remove("pp_stages");
        }
        let read = parse(&json.to_string()).expect("parse");
        prop_assert_eq!(read.ranks(), schedule.ranks());
    }

    #[test]
    fn any_operations_are_read_checked_and_run_without_a_panic(
        placement in prop::sample::select(vec!["linear", "interleaved", "bidirectional", "v"]),
        num_chunks in 0..5_usize,
        num_virtual_stages in prop::option::of(0..3_u32),
        ranks in prop::collection::vec(
            prop::collection::vec(
                (
                    prop::sample::select(vec!["F0", "F1", "B0", "B1", "I0", "I1", "W", "F0B1", "F1B0"]),
                    prop::collection::vec(0..5_u32, 1..3),
                    prop::collection::vec(0..6_u32, 1..3),
                ),
                0..10,
            ),
            0..4,
        ),
        has_chunks in any::<bool>(),
        has_stages in any::<bool>(),
    ) {
        let rank_json = |ops: &Vec<(&str, Vec<u32>, Vec<u32>)>| {
            let mut rank = json!({"ops": ops.iter().map(|op| op.0).collect::<Vec<_>>()});
            if has_chunks {
                rank["chunks"] = ops.iter().map(|op| op.1.clone()).collect::<Vec<_>>().into();
            }
            if has_stages {
                rank["pp_stages"] = ops.iter().map(|op| op.2.clone()).collect::<Vec<_>>().into();
            }
            rank
        };
        let json = json!({
            "placement": placement,
            "num_virtual_stages": num_virtual_stages,
            "num_chunks": num_chunks,
            "ranks": ranks.iter().map(rank_json).collect::<Vec<_>>(),
        });
        if let Ok(schedule) = parse(&json.to_string()) {
            let costs = Costs::uniform(StageTimes::default());
            match check(&schedule, &Limits::default()) {
                Ok(_) => prop_assert!(simulate(&schedule, &costs).is_ok()),
                Err(problem) => prop_assert!(!problem.to_string().is_empty()),
            }
        }
    }

    #[test]
    fn any_text_is_refused_without_a_panic(text in "\\PC{0,200}") {
        prop_assert!(parse(&text).is_err());
    }

    #[test]
    fn a_cut_off_file_is_refused(case in cases(), at in any::<prop::sample::Index>()) {
        let text = case.schedule().to_json().to_string();
        let cut = &text[..at.index(text.len())];
        prop_assert!(parse(cut).is_err());
    }
}

#[test]
fn a_file_that_does_not_parse_says_where() {
    let with_ops = |ops: Value| {
        refusal(&json!({"placement": "linear", "num_chunks": 1, "ranks": [{"ops": ops}]}))
    };
    let prefix = "own.json: not a valid pipeline schedule (JSON): rank 0";
    assert_eq!(
        with_ops(json!(["F0", "X0"])),
        format!("{prefix}, op 1 (`X0`): expected F0, B0, I0, W or F0B1")
    );
    assert_eq!(
        with_ops(json!(["W"])),
        format!("{prefix}, op 0 (`W`): no I before it waits for this W")
    );
    assert_eq!(
        with_ops(json!(["F1"])),
        format!("{prefix}, op 0 (`F1`): this placement has no direction 1")
    );
    let rank =
        |rank: Value| refusal(&json!({"placement": "linear", "num_chunks": 1, "ranks": [rank]}));
    assert_eq!(
        rank(json!({"rank": 1, "ops": []})),
        format!("{prefix}: `rank` is 1, expected ranks in order from 0")
    );
    assert_eq!(
        rank(json!({"ops": ["F0", "B0"], "chunks": [[0]]})),
        format!("{prefix}: `chunks` has 1 entries, expected 2 as `ops`")
    );
    assert_eq!(
        rank(json!({"ops": ["F0", "B0"], "chunks": [[0], [0, 1]]})),
        format!("{prefix}, op 1 (`B0`): its entry in `chunks` should have 1 numbers")
    );
    let placement = |placement: Value| {
        refusal(&json!({"placement": placement, "num_chunks": 1, "ranks": [{"ops": []}]}))
    };
    assert!(placement(json!("ring")).contains("`placement` is `ring`, expected linear"));
    assert!(placement(json!("interleaved")).contains("`num_virtual_stages` is required"));
}

#[test]
fn files_of_impossible_size_are_refused_by_the_argument() {
    let sized = |num_chunks: usize, placement: &str, num_virtual_stages: Option<u32>| {
        refusal(&json!({
            "placement": placement,
            "num_virtual_stages": num_virtual_stages,
            "num_chunks": num_chunks,
            "ranks": [{"ops": [], "pp_stages": []}],
        }))
    };
    assert!(sized(0, "linear", None).contains("`num_chunks` is 0"));
    assert!(sized(usize::MAX, "linear", None).contains("`num_chunks` is"));
    assert!(sized(3, "bidirectional", None).contains("`num_chunks` is 3, expected an even number"));
    assert!(sized(1, "interleaved", Some(0)).contains("`num_virtual_stages` is 0"));
    assert!(sized(1, "interleaved", Some(u32::MAX)).contains("pp_stages in all"));
    let no_ranks = json!({"placement": "linear", "num_chunks": 1, "ranks": []});
    assert!(refusal(&no_ranks).contains("`num_pp_ranks` is 0"));
}

#[test]
fn a_weight_gradient_may_name_its_chunk() {
    // W of chunk 1 before that of chunk 0: allowed by the dependencies, if said.
    let json = json!({
        "placement": "linear", "num_chunks": 2,
        "ranks": [{
            "ops": ["F0", "F0", "I0", "I0", "W", "W"],
            "chunks": [[0], [1], [0], [1], [1], [0]],
        }],
    });
    let schedule = parse(&json.to_string()).expect("parse");
    let chunks: Vec<u32> = schedule.ranks()[0][4..]
        .iter()
        .flat_map(|op| op.parts().map(|(_, cell)| cell.chunk_idx))
        .collect();
    assert_eq!(chunks, [1, 0]);
    check(&schedule, &Limits::default()).expect("valid");
}

#[test]
fn a_file_that_is_no_text_is_bad_input() {
    let file = tempfile::NamedTempFile::new().expect("file");
    std::fs::write(file.path(), b"{\xff}").expect("write");
    let message = Schedule::read(file.path()).expect_err("no text").to_string();
    assert!(message.contains("not a valid pipeline schedule (JSON): invalid utf-8"), "{message}");
}

#[test]
fn a_missing_file_names_its_path() {
    let error = Schedule::read("no/such/schedule.json").expect_err("there is none").to_string();
    assert!(error.contains("no/such/schedule.json"), "{error}");
    assert!(Schedule::generate(ScheduleKind::GPipe, 1, 1).is_ok());
}
