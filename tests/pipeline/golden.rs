//! The order of operations equals the reference's, on every rank; provenance is in the files.

use moekit::pipeline::{OpKind, Schedule, ScheduleKind};
use serde::Deserialize;

#[derive(Deserialize)]
struct Golden {
    schedules: Vec<GoldenSchedule>,
    digests: Vec<(usize, usize, String)>,
}

#[derive(Deserialize)]
struct GoldenSchedule {
    num_pp_ranks: usize,
    num_chunks: usize,
    ranks: Vec<String>,
}

#[test]
fn dualpipe_orders_every_rank_as_the_reference_does() {
    compare(ScheduleKind::DualPipe, include_str!("../golden/pipeline/dualpipe.json"));
}

#[test]
fn dualpipev_orders_every_rank_as_the_reference_does() {
    compare(ScheduleKind::DualPipeV, include_str!("../golden/pipeline/dualpipev.json"));
}

#[test]
fn one_f_one_b_zb1p_and_gpipe_have_their_papers_orders() {
    let cases = [
        (ScheduleKind::GPipe, 2, 3, vec!["F0 F1 F2 B0 B1 B2"; 2]),
        (
            ScheduleKind::OneFOneB,
            3,
            4,
            vec!["F0 F1 F2 B0 F3 B1 B2 B3", "F0 F1 B0 F2 B1 F3 B2 B3", "F0 B0 F1 B1 F2 B2 F3 B3"],
        ),
        (
            ScheduleKind::Zb1p,
            3,
            4,
            vec![
                "F0 F1 F2 I0 W0 F3 I1 W1 I2 W2 I3 W3",
                "F0 F1 I0 F2 I1 W0 F3 I2 W1 I3 W2 W3",
                "F0 I0 F1 I1 F2 I2 W0 F3 I3 W1 W2 W3",
            ],
        ),
    ];
    for (kind, num_pp_ranks, num_chunks, expected) in cases {
        let schedule = Schedule::generate(kind, num_pp_ranks, num_chunks).expect("generate");
        let got: Vec<String> =
            rank_texts(&schedule, |kind, _, _, chunk_idx| format!("{}{chunk_idx}", kind.letter()));
        assert_eq!(got, expected, "{kind}");
    }
}

/// Narayanan et al. 2021, figure 4: 4 ranks, 2 pp_stages each, 8 chunks; stage 0 = `F`, 1 = `f`.
#[test]
fn interleaved_walks_groups_of_as_many_chunks_as_ranks() {
    let kind = ScheduleKind::Interleaved { num_virtual_stages: 2 };
    let schedule = Schedule::generate(kind, 4, 8).expect("generate");
    let got = rank_texts(&schedule, |kind, _, pp_stage_idx, chunk_idx| {
        let letter = kind.letter();
        let letter = if pp_stage_idx >= 4 { letter.to_ascii_lowercase() } else { letter };
        format!("{letter}{}", chunk_idx + 1)
    });
    assert_eq!(
        got[3],
        "F1 F2 F3 F4 f1 b1 f2 b2 f3 b3 f4 b4 F5 B1 F6 B2 F7 B3 F8 B4 f5 b5 f6 b6 f7 b7 f8 b8 \
         B5 B6 B7 B8"
    );
    assert_eq!(
        got[0],
        "F1 F2 F3 F4 f1 f2 f3 f4 F5 F6 F7 b1 F8 b2 f5 b3 f6 b4 f7 B1 f8 B2 B3 B4 b5 b6 b7 b8 \
         B5 B6 B7 B8"
    );
}

fn compare(kind: ScheduleKind, golden: &str) {
    let golden: Golden = serde_json::from_str(golden).expect("golden file");
    assert!(golden.schedules.len() >= 7 && golden.digests.len() >= 128, "golden file is cut short");
    for case in golden.schedules {
        let (num_pp_ranks, num_chunks) = (case.num_pp_ranks, case.num_chunks);
        let schedule = Schedule::generate(kind, num_pp_ranks, num_chunks).expect("generate");
        let got = golden_texts(&schedule);
        assert_eq!(got.len(), case.ranks.len());
        for (rank_idx, (got, expected)) in got.iter().zip(&case.ranks).enumerate() {
            assert_eq!(got, expected, "{kind} {num_pp_ranks} x {num_chunks}, rank {rank_idx}");
        }
    }
    for (num_pp_ranks, num_chunks, expected) in golden.digests {
        let schedule = Schedule::generate(kind, num_pp_ranks, num_chunks).expect("generate");
        let text = golden_texts(&schedule).join("\n") + "\n";
        let got = format!("{:016x}", fnv1a(text.as_bytes()));
        assert_eq!(got, expected, "{kind} {num_pp_ranks} x {num_chunks}");
    }
}

fn golden_texts(schedule: &Schedule) -> Vec<String> {
    rank_texts(schedule, |kind, direction, _, chunk_idx| {
        format!("{}{direction}.{chunk_idx}", kind.letter())
    })
}

fn rank_texts(schedule: &Schedule, part: impl Fn(OpKind, u8, u32, u32) -> String) -> Vec<String> {
    let op_text = |op: &moekit::pipeline::Op| -> String {
        op.parts()
            .map(|(kind, cell)| part(kind, cell.direction, cell.pp_stage_idx, cell.chunk_idx))
            .collect()
    };
    let rank_text = |ops: &Vec<_>| ops.iter().map(op_text).collect::<Vec<_>>().join(" ");
    schedule.ranks().iter().map(rank_text).collect()
}

fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
