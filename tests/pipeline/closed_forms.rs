//! The published bubbles are the largest of any rank, where they claim to hold.

use moekit::pipeline::{
    Costs, Schedule, ScheduleKind, StageTimes, closed_form_bubble_us, simulate,
};
use proptest::prelude::*;

use crate::strategies::cases;

proptest! {
    #[test]
    fn closed_forms_are_the_largest_bubble_when_f_i_and_w_are_equal(
        case in cases(),
        unit_eighths in 1..64_u32,
        unsaved_eighths in 0..=8_u32,
    ) {
        let schedule = case.schedule();
        prop_assume!(schedule.num_chunks() >= schedule.num_pp_ranks());
        let unit_us = f64::from(unit_eighths) / 8.0;
        let times = StageTimes {
            f_us: unit_us,
            b_us: 2.0 * unit_us,
            w_us: unit_us,
            fb_us: unit_us * (2.0 + f64::from(unsaved_eighths) / 8.0),
        };
        let simulation = simulate(&schedule, &Costs::uniform(times)).expect("simulate");
        let expected = closed_form_bubble_us(&schedule, &times).expect("a generated schedule");
        prop_assert_eq!(
            simulation.max_bubble_us(), expected,
            "{} {} x {}", schedule.name(), schedule.num_pp_ranks(), schedule.num_chunks()
        );
    }
}

proptest! {
    #[test]
    fn closed_forms_hold_beyond_equal_times_as_the_guide_says(
        case in cases(),
        f_eighths in 1..40_u32,
        i_eighths in 1..40_u32,
        w_share in 0..=4_u32,
        unsaved_share in 0..=4_u32,
    ) {
        let schedule = case.schedule();
        prop_assume!(schedule.num_chunks() >= schedule.num_pp_ranks());
        let f_us = f64::from(f_eighths) / 8.0;
        // DualPipe wants F = I, ZB1P W of at most both, the others nothing.
        let i_us = match schedule.kind() {
            Some(ScheduleKind::DualPipe | ScheduleKind::DualPipeV) => f_us,
            _ => f64::from(i_eighths) / 8.0,
        };
        let w_us = f_us.min(i_us) * f64::from(w_share) / 4.0;
        let b_us = i_us + w_us;
        let fb_us = f_us.max(b_us) + f_us.min(b_us) * f64::from(unsaved_share) / 4.0;
        let times = StageTimes { f_us, b_us, w_us, fb_us };
        let simulation = simulate(&schedule, &Costs::uniform(times)).expect("simulate");
        let expected = closed_form_bubble_us(&schedule, &times).expect("a generated schedule");
        prop_assert_eq!(simulation.max_bubble_us(), expected, "{:?}", times);
    }
}

#[test]
fn dualpipe_at_8_ranks_and_20_chunks_has_the_figures_of_the_readme() {
    let schedule = Schedule::generate(ScheduleKind::DualPipe, 8, 20).expect("generate");
    let times = StageTimes::default();
    let simulation = simulate(&schedule, &Costs::uniform(times)).expect("simulate");
    assert_eq!(simulation.max_bubble_us(), 6.0);
    assert_eq!(simulation.makespan_us, 20.0 * 3.0 + 6.0);
}

#[test]
fn peaks_of_activations_are_those_of_the_readme() {
    let peak = |kind, num_pp_ranks, num_chunks| {
        let schedule = Schedule::generate(kind, num_pp_ranks, num_chunks).expect("generate");
        let simulation =
            simulate(&schedule, &Costs::uniform(StageTimes::default())).expect("simulate");
        simulation.ranks.iter().map(|rank| rank.peak_activations).fold(0.0, f64::max)
    };
    for num_pp_ranks in [2, 4, 8, 16] {
        let pp = num_pp_ranks as f64;
        assert_eq!(peak(ScheduleKind::GPipe, num_pp_ranks, 40), 40.0);
        assert_eq!(peak(ScheduleKind::OneFOneB, num_pp_ranks, 40), pp);
        assert_eq!(peak(ScheduleKind::Zb1p, num_pp_ranks, 40), pp);
        assert_eq!(peak(ScheduleKind::DualPipe, num_pp_ranks, 40), pp + 1.0);
        assert_eq!(peak(ScheduleKind::DualPipeV, num_pp_ranks / 2, 40), pp + 1.0);
    }
}

proptest! {
    #[test]
    fn zb1p_fills_no_more_than_the_shortest_of_its_operations(
        num_pp_ranks in 1..9_usize,
        extra in 0..30_usize,
        f_eighths in 1..40_u32,
        i_eighths in 1..40_u32,
        w_eighths in 1..40_u32,
    ) {
        let [f_us, i_us, w_us] =
            [f_eighths, i_eighths, w_eighths].map(|count| f64::from(count) / 8.0);
        let num_chunks = 2 * num_pp_ranks + extra;
        let schedule =
            Schedule::generate(ScheduleKind::Zb1p, num_pp_ranks, num_chunks).expect("generate");
        let times = StageTimes { f_us, b_us: i_us + w_us, w_us, fb_us: f_us + i_us + w_us };
        let simulation = simulate(&schedule, &Costs::uniform(times)).expect("simulate");
        let filled_us = w_us.min(f_us).min(i_us);
        let expected = (num_pp_ranks - 1) as f64 * (f_us + times.b_us - w_us - filled_us);
        prop_assert_eq!(simulation.max_bubble_us(), expected);
    }
}
