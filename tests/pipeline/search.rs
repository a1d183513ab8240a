//! The ranking of schedules.

use moekit::pipeline::{Candidate, Link, Outcome, ScheduleKind, SearchSpec, StageTimes, search};
use proptest::prelude::*;

use crate::strategies::stage_times;

fn spec(num_pp_ranks: usize, num_chunks: usize) -> SearchSpec {
    SearchSpec {
        num_pp_ranks,
        num_chunks,
        times: StageTimes { fb_us: 2.5, ..StageTimes::default() },
        link: Link::default(),
        kept_for_weights: 1.0,
        parameter_bytes: 10e9,
        activation_bytes: 1e9,
        memory_limit_bytes: None,
        max_virtual_stages: 3,
    }
}

fn outcome(candidates: &[Candidate], kind: ScheduleKind) -> Outcome {
    let candidate = candidates.iter().find(|candidate| candidate.kind == kind).expect("listed");
    *candidate.outcome.as_ref().expect("suited")
}

proptest! {
    #[test]
    fn what_fits_comes_first_and_the_shorter_before_the_longer(
        num_pp_ranks in 1..9_usize,
        num_chunks in 1..40_usize,
        times in stage_times(),
        memory_limit_bytes in prop::option::of(0.0..60e9_f64),
    ) {
        let spec = SearchSpec { times, memory_limit_bytes, ..spec(num_pp_ranks, num_chunks) };
        let candidates = search(&spec).expect("search");
        prop_assert_eq!(candidates.len(), 7);
        let rank = |candidate: &Candidate| match &candidate.outcome {
            Ok(outcome) => (u8::from(!outcome.fits), outcome.makespan_us),
            Err(_) => (2, 0.0),
        };
        for pair in candidates.windows(2) {
            prop_assert!(rank(&pair[0]) <= rank(&pair[1]), "{pair:?}");
        }
        for outcome in candidates.iter().filter_map(|candidate| candidate.outcome.as_ref().ok()) {
            let fits = memory_limit_bytes.is_none_or(|limit| outcome.memory_bytes <= limit);
            prop_assert_eq!(outcome.fits, fits);
            let bytes = outcome.parameters * 10e9 + outcome.peak_activations * 1e9;
            prop_assert!((outcome.memory_bytes - bytes).abs() < 1.0);
        }
    }
}

#[test]
fn every_schedule_does_the_same_work_at_its_own_memory() {
    let candidates = search(&spec(8, 32)).expect("search");
    let one_f_one_b = outcome(&candidates, ScheduleKind::OneFOneB);
    assert_eq!(one_f_one_b.makespan_us, 32.0 * 3.0 + 7.0 * 3.0);
    assert_eq!((one_f_one_b.peak_activations, one_f_one_b.parameters), (8.0, 1.0));
    let dualpipe = outcome(&candidates, ScheduleKind::DualPipe);
    assert_eq!((dualpipe.peak_activations, dualpipe.parameters), (9.0, 2.0));
    assert_eq!(dualpipe.memory_bytes, 29e9);
    // Twice as many pp_stages of half the size: 17 halves.
    let dualpipev = outcome(&candidates, ScheduleKind::DualPipeV);
    assert_eq!((dualpipev.peak_activations, dualpipev.parameters), (8.5, 1.0));
    assert_eq!(dualpipev.max_bubble_us, 7.0 * (2.5 + 2.0 - 3.0) / 2.0);
}

#[test]
fn a_memory_limit_moves_the_hungry_ones_back() {
    let unlimited = search(&spec(8, 32)).expect("search");
    assert_eq!(unlimited[0].kind, ScheduleKind::DualPipe);
    let limit = SearchSpec { memory_limit_bytes: Some(20e9), ..spec(8, 32) };
    let limited = search(&limit).expect("search");
    assert_eq!(limited[0].kind, ScheduleKind::DualPipeV);
    assert!(!outcome(&limited, ScheduleKind::DualPipe).fits);
    assert!(!outcome(&limited, ScheduleKind::GPipe).fits);
}

#[test]
fn schedules_that_the_arguments_do_not_suit_say_why() {
    let candidates = search(&spec(7, 20)).expect("search");
    let reason = |kind| {
        let candidate = candidates.iter().find(|candidate| candidate.kind == kind).expect("listed");
        candidate.outcome.as_ref().expect_err("unsuited").to_string()
    };
    assert!(reason(ScheduleKind::DualPipe).contains("`num_pp_ranks` is 7"));
    let interleaved = ScheduleKind::Interleaved { num_virtual_stages: 2 };
    assert!(reason(interleaved).contains("`num_chunks` is 20"));
}

#[test]
fn bad_arguments_are_refused_once_for_all() {
    let refuse = |spec: SearchSpec, arg: &str| {
        let error = search(&spec).expect_err(arg).to_string();
        assert!(error.contains(&format!("`{arg}`")), "{error}");
    };
    refuse(spec(0, 4), "num_pp_ranks");
    refuse(spec(4, 0), "num_chunks");
    refuse(SearchSpec { parameter_bytes: -1.0, ..spec(4, 8) }, "parameter_bytes");
    refuse(SearchSpec { memory_limit_bytes: Some(f64::NAN), ..spec(4, 8) }, "memory_limit_bytes");
    refuse(SearchSpec { max_virtual_stages: 65, ..spec(4, 8) }, "max_virtual_stages");
    let times = StageTimes { w_us: 3.0, ..StageTimes::default() };
    refuse(SearchSpec { times, ..spec(4, 8) }, "w_us");
}
