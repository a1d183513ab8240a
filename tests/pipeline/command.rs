//! `moekit pipeline`: the contract for scripts.

use std::process::{Command, Output};

use proptest::prelude::*;
use serde_json::{Value, json};

fn moekit(args: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_moekit"))
        .arg("pipeline")
        .args(args.split_whitespace())
        .output()
        .expect("run moekit")
}

fn stdout(args: &str) -> String {
    let output = moekit(args);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "moekit pipeline {args}: {stderr}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

fn parsed(args: &str) -> Value {
    serde_json::from_str(&stdout(args)).expect("JSON")
}

#[test]
fn json_has_the_members_of_the_contract() {
    let json = parsed("--schedule dualpipe --ranks 2 --chunks 4 --f 1 --b 2 --w 1 --fb 2.5 --json");
    let rank = &json["ranks"][0];
    assert_eq!(rank["rank"], 0);
    assert_eq!(rank["ops"], json!(["F0", "F1", "F0", "B1", "F1B0", "B1", "I0", "W"]));
    assert_eq!(rank["chunks"], json!([[0], [0], [1], [0], [1, 0], [1], [1], [1]]));
    assert_eq!(json["makespan"], 11.5);
    assert_eq!(json["bubble"], json!([0.0, 0.0]));
    assert_eq!(json["peak_activations"], json!([3.0, 3.0]));
    assert_eq!(json["parameters"], json!([2, 2]));
    assert_eq!(json["num_chunks"], 4);
}

#[test]
fn what_json_prints_is_a_schedule_that_file_takes() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("schedule.json");
    for args in [
        "--schedule zb1p --ranks 3 --chunks 5",
        "--schedule interleaved --virtual-stages 3 --ranks 2 --chunks 4",
        "--schedule dualpipev --ranks 2 --chunks 5",
    ] {
        let text = stdout(&format!("{args} --json"));
        std::fs::write(&path, &text).expect("write");
        let again = parsed(&format!("--file {} --json", path.display()));
        let first: Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(again["ranks"], first["ranks"], "{args}");
        assert_eq!(again["makespan"], first["makespan"], "{args}");
    }
}

#[test]
fn bad_input_names_the_argument_and_exits_with_2() {
    let cases = [
        ("--schedule dualpipe --ranks 4 --chunks 6", "--chunks"),
        ("--schedule dualpipe --ranks 3 --chunks 12", "--ranks"),
        ("--schedule dualpipe --ranks 4 --chunks 9", "--chunks"),
        ("--schedule dualpipev --ranks 4 --chunks 7", "--chunks"),
        ("--schedule interleaved --ranks 4 --chunks 6", "--chunks"),
        ("--schedule interleaved --ranks 4 --chunks 8 --virtual-stages 1", "--virtual-stages"),
        ("--schedule 1f1b --ranks 0 --chunks 6", "--ranks"),
        ("--schedule 1f1b --ranks 2 --chunks 0", "--chunks"),
        ("--schedule 1f1b --ranks -1 --chunks 4", "--ranks"),
        ("--schedule 1f1b --ranks 99999999999 --chunks 4", "--ranks"),
        ("--schedule none --ranks 2 --chunks 4", "--schedule"),
        ("--schedule 1f1b --ranks 2 --chunks 4 --f -1", "`--f` is -1"),
        ("--schedule 1f1b --ranks 2 --chunks 4 --w nan", "`--w`"),
        ("--schedule 1f1b --ranks 2 --chunks 4 --b 1 --w 2", "`--w`"),
        ("--schedule 1f1b --ranks 2 --chunks 4 --latency -1", "--latency"),
        ("--schedule 1f1b --ranks 2 --chunks 4 --bandwidth 0", "--bandwidth"),
        ("--schedule 1f1b --ranks 2 --chunks 4 --jitter 2", "--jitter"),
        ("--schedule 1f1b --ranks 2 --chunks 4 --slow-rank 2:1.5", "`--slow-rank`"),
        ("--schedule 1f1b --ranks 2 --chunks 4 --slow-rank two", "--slow-rank"),
        ("--schedule 1f1b --ranks 2 --chunks 4 --kept-for-weights 2", "--kept-for-weights"),
        ("--schedule 1f1b --ranks 2 --chunks 4 --max-activations 1", "rank 0, op 1 (`F0`)"),
        ("--schedule dualpipe --ranks 4 --chunks 8 --recv-buffers 0", "deadlock"),
        ("--schedule 1f1b --ranks 2 --chunks 4 --times /no/such/file", "/no/such/file"),
        ("--file /no/such/file", "/no/such/file"),
        ("--schedule 1f1b --chunks 4", "--ranks"),
        ("--search --ranks 4 --chunks 8 --memory-limit -1", "--memory-limit"),
    ];
    for (args, named) in cases {
        let output = moekit(args);
        let stderr = String::from_utf8(output.stderr).expect("UTF-8");
        assert_eq!(output.status.code(), Some(2), "{args}: {stderr}");
        assert!(stderr.contains(named), "{args}: {stderr}");
        assert!(output.stdout.is_empty(), "{args}: output beside an error");
    }
}

#[test]
fn odd_ranks_and_chunks_suit_dualpipev() {
    let json = parsed("--schedule dualpipev --ranks 3 --chunks 7 --json");
    assert_eq!(json["max_bubble"], json["published_bubble"]);
}

#[test]
fn times_by_rank_come_from_a_file() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("times.json");
    let fast = json!({"f": 1, "b": 2, "w": 1});
    let slow = json!({"f": 2, "b": 4, "w": 2, "fb": 6});
    std::fs::write(&path, json!([fast, [slow, slow]]).to_string()).expect("write");
    let json =
        parsed(&format!("--schedule gpipe --ranks 2 --chunks 3 --times {} --json", path.display()));
    assert_eq!(json["busy"], json!([9.0, 18.0]));
    assert_eq!(json["published_bubble"], Value::Null);
    std::fs::write(&path, json!([fast]).to_string()).expect("write");
    let output =
        moekit(&format!("--schedule gpipe --ranks 2 --chunks 3 --times {}", path.display()));
    let stderr = String::from_utf8(output.stderr).expect("UTF-8");
    assert!(
        stderr.contains("`--times` is a list of 1, expected one entry for each of 2 ranks"),
        "{stderr}"
    );
}

#[test]
fn a_deadlocked_schedule_of_ones_own_is_refused_where_it_sticks() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("own.json");
    let own = json!({"placement": "linear", "num_chunks": 2, "ranks": [
        {"ops": ["F0", "B0", "F0", "B0"]}, {"ops": ["F0", "F0", "B0", "B0"]},
    ]});
    std::fs::write(&path, own.to_string()).expect("write");
    let output = moekit(&format!("--file {}", path.display()));
    let stderr = String::from_utf8(output.stderr).expect("UTF-8");
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr.contains("rank 0, op 1 (`B0`): deadlock"), "{stderr}");
}

#[test]
fn slow_ranks_jitter_and_messages_change_the_makespan() {
    let base = "--schedule 1f1b --ranks 4 --chunks 8 --json";
    let makespan =
        |extra: &str| parsed(&format!("{base} {extra}"))["makespan"].as_f64().expect("a number");
    assert_eq!(makespan(""), 33.0);
    assert_eq!(makespan("--slow-rank 1:2"), makespan("--slow-rank 1:2 --seed 9"));
    assert!(makespan("--slow-rank 1:2") > 48.0);
    assert!(makespan("--latency 0.5") > 33.0);
    assert!(makespan("--bandwidth 1 --message-bytes 500") > 33.0);
    assert_ne!(makespan("--jitter 0.1"), makespan("--jitter 0.1 --seed 1"));
}

proptest! {
    // Each case starts the command.
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn no_damaged_file_of_times_or_parts_makes_the_command_panic(
        which in any::<bool>(),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
        cut in 0..4usize,
    ) {
        let (flag, mut bytes) = match which {
            true => ("--times", br#"[{"f": 1, "b": 2e0, "w": 1}, [{"f": 1, "b": 2, "w": 1, "fb": 3}, {"f": 0, "b": 0, "w": 0}]]"#.to_vec()),
            false => ("--overlap", include_bytes!("../golden/pipeline/layer.json").to_vec()),
        };
        bytes.truncate(bytes.len() - cut);
        let at = at.index(bytes.len());
        bytes[at] = byte;
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("damaged.json");
        std::fs::write(&path, &bytes).expect("write");
        let args = format!("--schedule gpipe --ranks 2 --chunks 3 {flag} {}", path.display());
        let output = moekit(&args);
        let stderr = String::from_utf8_lossy(&output.stderr);
        prop_assert!(matches!(output.status.code(), Some(0 | 2)), "{stderr}");
    }
}
