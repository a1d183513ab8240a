//! A spoilt schedule is refused, with the right problem in the right place.

use moekit::pipeline::{
    Fault, Limits, Op, OpKind, Placement, Problem, Schedule, ScheduleKind, WaitReason, check,
};
use proptest::prelude::*;

use crate::strategies::cases;

fn spoil(
    schedule: &Schedule,
    rank_idx: usize,
    change: impl FnOnce(&mut Vec<Op>),
) -> Result<(), Problem> {
    let mut ranks = schedule.ranks().to_vec();
    change(&mut ranks[rank_idx]);
    let spoilt = Schedule::from_ops(schedule.placement(), schedule.num_chunks(), ranks);
    check(&spoilt.expect("the size is good"), &Limits::default()).map(|_| ())
}

proptest! {
    #[test]
    fn a_lost_operation_is_missed(case in cases(), at in any::<prop::sample::Index>()) {
        let schedule = case.schedule();
        let rank_idx = at.index(schedule.num_pp_ranks());
        let op_idx = at.index(schedule.ranks()[rank_idx].len());
        let lost = schedule.ranks()[rank_idx][op_idx];
        let problem = spoil(&schedule, rank_idx, |ops| {
            ops.remove(op_idx);
        }).unwrap_err();
        prop_assert_eq!(problem.rank_idx, rank_idx);
        prop_assert_eq!(problem.op, None);
        let Fault::Missing(kind, cell) = problem.fault else {
            panic!("expected Missing, got {problem}")
        };
        let is_part = lost.parts().any(|(lost_kind, lost_cell)| {
            lost_cell == cell && (lost_kind == kind || lost_kind == OpKind::B)
        });
        prop_assert!(is_part, "lost {lost:?}, missed {kind:?} {cell:?}");
    }

    #[test]
    fn a_doubled_operation_is_named(case in cases(), at in any::<prop::sample::Index>()) {
        let schedule = case.schedule();
        let rank_idx = at.index(schedule.num_pp_ranks());
        let op_idx = at.index(schedule.ranks()[rank_idx].len());
        let op = schedule.ranks()[rank_idx][op_idx];
        let problem = spoil(&schedule, rank_idx, |ops| ops.push(op)).unwrap_err();
        prop_assert_eq!(problem.op, Some((schedule.ranks()[rank_idx].len(), op)));
        prop_assert!(
            matches!(problem.fault, Fault::Twice { first_op_idx, .. } if first_op_idx == op_idx),
            "{}", problem
        );
    }

    #[test]
    fn work_on_another_ranks_stage_is_named(
        case in cases(),
        at in any::<prop::sample::Index>(),
    ) {
        let schedule = case.schedule();
        prop_assume!(schedule.num_pp_ranks() > 1);
        let rank_idx = at.index(schedule.num_pp_ranks());
        let other_idx = (rank_idx + 1) % schedule.num_pp_ranks();
        let foreign = schedule.ranks()[other_idx][0];
        let problem = spoil(&schedule, rank_idx, |ops| ops.insert(0, foreign)).unwrap_err();
        prop_assert_eq!((problem.rank_idx, problem.op), (rank_idx, Some((0, foreign))));
        prop_assert!(
            matches!(problem.fault, Fault::WrongRank { expected, .. } if expected == other_idx),
            "{}", problem
        );
    }

    #[test]
    fn a_backward_moved_to_the_front_comes_before_its_forward(
        case in cases(),
        at in any::<prop::sample::Index>(),
    ) {
        let schedule = case.schedule();
        let rank_idx = at.index(schedule.num_pp_ranks());
        let ops = &schedule.ranks()[rank_idx];
        let backwards: Vec<usize> = (0..ops.len())
            .filter(|op_idx| matches!(ops[*op_idx], Op::Single(OpKind::B | OpKind::I, _)))
            .collect();
        let op_idx = backwards[at.index(backwards.len())];
        let problem = spoil(&schedule, rank_idx, |ops| ops[..=op_idx].rotate_right(1)).unwrap_err();
        prop_assert_eq!((problem.rank_idx, problem.op), (rank_idx, Some((0, ops[op_idx]))));
        prop_assert!(matches!(problem.fault, Fault::BeforeItsInput { .. }), "{}", problem);
    }

    #[test]
    fn a_weight_gradient_before_its_input_gradient_is_named(num_pp_ranks in 1..9_usize, num_chunks in 1..9_usize) {
        let schedule = Schedule::generate(ScheduleKind::Zb1p, num_pp_ranks, num_chunks).expect("generate");
        let ops = &schedule.ranks()[0];
        let is_weight = |op: &Op| matches!(op, Op::Single(OpKind::W, _));
        let op_idx = ops.iter().position(is_weight).expect("a W");
        let problem = spoil(&schedule, 0, |ops| ops.swap(op_idx - 1, op_idx)).unwrap_err();
        prop_assert_eq!((problem.rank_idx, problem.op), (0, Some((op_idx - 1, ops[op_idx]))));
        prop_assert!(
            matches!(problem.fault, Fault::BeforeItsInput { work: (OpKind::W, _), .. }),
            "{}", problem
        );
    }
}

#[test]
fn ranks_that_wait_for_each_other_are_named() {
    // Rank 0 wants the gradient of chunk 0 before it sends chunk 1, rank 1 wants chunk 1 first.
    let schedule = Schedule::generate(ScheduleKind::OneFOneB, 2, 2).expect("generate");
    let mut ranks = schedule.ranks().to_vec();
    ranks[0] = [0, 2, 1, 3].map(|op_idx| gpipe_ops(0)[op_idx]).to_vec();
    ranks[1] = gpipe_ops(1);
    let schedule = Schedule::from_ops(Placement::Linear, 2, ranks).expect("schedule");
    let problem = check(&schedule, &Limits::default()).unwrap_err();
    let Fault::Deadlock(waits) = &problem.fault else { panic!("{problem}") };
    assert_eq!(waits.iter().map(|wait| wait.rank_idx).collect::<Vec<_>>(), [0, 1]);
    assert!(waits.iter().all(|wait| wait.reason == WaitReason::Input));
    assert_eq!(
        problem.to_string(),
        "rank 0, op 1 (`B0`): deadlock: rank 0 waits at op 1 (`B0`) for an input from rank 1; \
         rank 1 waits at op 1 (`F0`) for an input from rank 0"
    );
}

fn gpipe_ops(rank_idx: usize) -> Vec<Op> {
    let gpipe = Schedule::generate(ScheduleKind::GPipe, 2, 2).expect("generate");
    gpipe.ranks()[rank_idx].clone()
}

#[test]
fn dualpipe_needs_one_receive_posted_ahead_and_1f1b_none() {
    let proof = |kind| {
        let schedule = Schedule::generate(kind, 8, 24).expect("generate");
        check(&schedule, &Limits::default()).expect("valid").num_recv_buffers
    };
    assert_eq!(proof(ScheduleKind::OneFOneB), 0);
    assert_eq!(proof(ScheduleKind::DualPipe), 1);
    let dualpipe = Schedule::generate(ScheduleKind::DualPipe, 8, 24).expect("generate");
    let limits = Limits { num_recv_buffers: 0, ..Limits::default() };
    let problem = check(&dualpipe, &limits).unwrap_err();
    let Fault::Deadlock(waits) = &problem.fault else { panic!("{problem}") };
    assert!(waits.iter().any(|wait| wait.reason == WaitReason::Send), "{problem}");
}

#[test]
fn receives_out_of_order_need_more_buffers() {
    // Rank 1 takes the three chunks in reverse: two of them must lie in buffers meanwhile.
    let gpipe = Schedule::generate(ScheduleKind::GPipe, 2, 3).expect("generate");
    let mut ranks = gpipe.ranks().to_vec();
    ranks[1][..3].reverse();
    let schedule = Schedule::from_ops(Placement::Linear, 3, ranks).expect("schedule");
    assert!(matches!(check(&schedule, &Limits::default()).unwrap_err().fault, Fault::Deadlock(_)));
    let limits = Limits { num_recv_buffers: 8, ..Limits::default() };
    assert_eq!(check(&schedule, &limits).expect("valid").num_recv_buffers, 3);
}

#[test]
fn memory_above_the_limit_is_named_where_it_first_happens() {
    let schedule = Schedule::generate(ScheduleKind::GPipe, 2, 6).expect("generate");
    let limits = Limits { max_activations: Some(4.0), ..Limits::default() };
    let problem = check(&schedule, &limits).unwrap_err();
    assert_eq!(problem.to_string(), "rank 0, op 4 (`F0`): 5 activations are alive, the limit is 4");
}
