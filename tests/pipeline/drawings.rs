//! Drawings show every operation and bubble, the same each time.

use moekit::pipeline::{
    Colour, Costs, Schedule, ScheduleKind, Simulation, StageTimes, chrome_trace, gantt_svg,
    gantt_text, simulate,
};
use proptest::prelude::*;

use crate::strategies::{cases, stage_times};

fn simulated(kind: ScheduleKind, num_pp_ranks: usize, num_chunks: usize) -> (Schedule, Simulation) {
    let schedule = Schedule::generate(kind, num_pp_ranks, num_chunks).expect("generate");
    let simulation = simulate(&schedule, &Costs::uniform(StageTimes::default())).expect("simulate");
    (schedule, simulation)
}

#[test]
fn the_text_shows_operations_chunks_and_bubbles() {
    let (schedule, simulation) = simulated(ScheduleKind::OneFOneB, 2, 2);
    // Makespan 9, 54 columns: 6 columns for each unit.
    let drawing = gantt_text(&schedule, &simulation, 54 + 9, Colour::Never);
    assert_eq!(
        drawing,
        "rank 0 |F0----F1----............B0----------......B1----------|\n\
         rank 1 |......F0----B0----------F1----B1----------............|\n"
    );
}

#[test]
fn a_picture_has_a_box_for_each_part_and_is_the_same_each_time() {
    let (schedule, simulation) = simulated(ScheduleKind::DualPipe, 4, 8);
    let picture = gantt_svg(&schedule, &simulation);
    let num_ops: usize = schedule.ranks().iter().map(Vec::len).sum();
    let num_pairs = schedule.ranks().iter().flatten().filter(|op| op.parts().count() == 2).count();
    assert_eq!(picture.matches("<title>").count(), num_ops);
    assert_eq!(picture.matches("fill=\"none\"").count(), num_pairs, "frames around pairs");
    assert_eq!(picture.matches("stroke=\"#ffffff\"").count(), num_ops + num_pairs);
    assert_eq!(picture, gantt_svg(&schedule, &simulation));
}

#[test]
fn colours_are_opt_in_and_end_on_every_line() {
    let (schedule, simulation) = simulated(ScheduleKind::DualPipeV, 2, 4);
    let plain = gantt_text(&schedule, &simulation, 80, Colour::Never);
    assert!(!plain.contains('\x1b'));
    let coloured = gantt_text(&schedule, &simulation, 80, Colour::Always);
    for line in coloured.lines() {
        let last = line.rfind("\x1b[").expect("an escape code");
        assert_eq!(&line[last..], "\x1b[0m|", "{line:?}");
    }
}

#[test]
fn a_trace_holds_operations_messages_and_counters() {
    let (schedule, simulation) = simulated(ScheduleKind::DualPipe, 4, 8);
    let trace = chrome_trace(&schedule, &simulation);
    let events = trace["traceEvents"].as_array().expect("events");
    let of_phase = |phase: &str| events.iter().filter(|event| event["ph"] == phase).count();
    let num_ops: usize = schedule.ranks().iter().map(Vec::len).sum();
    assert_eq!(of_phase("X"), num_ops);
    assert_eq!(of_phase("C"), num_ops);
    assert_eq!(of_phase("M"), 1 + 4);
    // Two directions, three borders, forward and backward, four chunks each.
    assert_eq!((of_phase("s"), of_phase("f")), (48, 48));
    let pair = events.iter().find(|event| event["args"]["op"] == "F0B1").expect("a pair");
    assert_eq!(pair["name"], "F0 chunk 3 & B1 chunk 1");
    assert_eq!((&pair["ts"], &pair["dur"]), (&7.0.into(), &3.0.into()));
}

proptest! {
    #[test]
    fn drawings_keep_their_width_for_any_schedule(
        case in cases(),
        times in stage_times(),
        width in 0..200_usize,
    ) {
        let schedule = case.schedule();
        let simulation = simulate(&schedule, &Costs::uniform(times)).expect("simulate");
        let drawing = gantt_text(&schedule, &simulation, width, Colour::Never);
        prop_assert_eq!(drawing.lines().count(), schedule.num_pp_ranks());
        for line in drawing.lines() {
            prop_assert_eq!(line.len(), width.max(40), "{}", line);
        }
    }
}
