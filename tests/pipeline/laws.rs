//! Laws that hold for every schedule.

use moekit::pipeline::{
    Costs, Jitter, Limits, Link, Schedule, Sends, SlowRank, Times, check, simulate,
};
use proptest::prelude::*;

use crate::strategies::{cases, stage_times};

proptest! {
    #[test]
    fn every_generated_schedule_is_valid_with_one_receive_posted_ahead(case in cases()) {
        let schedule = case.schedule();
        let proof = check(&schedule, &Limits::default());
        prop_assert!(proof.is_ok(), "{}: {}", schedule.name(), proof.unwrap_err());
    }

    #[test]
    fn busy_time_is_the_sum_of_the_operations_and_the_makespan_is_at_least_any(
        case in cases(),
        times in stage_times(),
    ) {
        let schedule = case.schedule();
        let simulation = simulate(&schedule, &Costs::uniform(times)).expect("simulate");
        let num_cells_per_rank = (schedule.num_chunks_per_pipe()
            * schedule.placement().num_pp_stages_per_rank()) as f64;
        for (rank_idx, rank) in simulation.ranks.iter().enumerate() {
            let num_pairs = schedule.ranks()[rank_idx]
                .iter()
                .filter(|op| op.parts().count() == 2)
                .count() as f64;
            let singles = (num_cells_per_rank - num_pairs) * (times.f_us + times.b_us);
            let expected = singles + num_pairs * times.fb_us;
            prop_assert!((rank.busy_us - expected).abs() < 1e-9 * expected, "rank {rank_idx}");
            prop_assert!((rank.busy_us + rank.bubble_us - simulation.makespan_us).abs() < 1e-9 * expected);
            prop_assert!(rank.bubble_us >= -1e-9 * expected);
        }
        // A chunk passes all pp_stages forward and, but for the weights, backward.
        let depth = schedule.num_pp_stages() as f64;
        let one_chunk = depth * (times.f_us + times.i_us().min(times.fb_us - times.f_us));
        prop_assert!(simulation.makespan_us >= one_chunk - 1e-9);
    }

    #[test]
    fn operations_start_as_soon_as_the_last_ended_and_messages_came(
        case in cases(),
        times in stage_times(),
        latency_us in 0.0..3.0_f64,
        jitter in 0.0..1.0_f64,
        num_recv_buffers in proptest::option::of(1..3_usize),
    ) {
        let schedule = case.schedule();
        let costs = Costs {
            link: Link { latency_us, bandwidth_gbps: 1.0, message_bytes: 250.0 },
            jitter: Some(Jitter { relative: jitter, seed: 7 }),
            sends: match num_recv_buffers {
                Some(num_recv_buffers) => Sends::Blocking { num_recv_buffers },
                None => Sends::Buffered,
            },
            ..Costs::uniform(times)
        };
        let simulation = simulate(&schedule, &costs).expect("simulate");
        let mut earliest: Vec<Vec<f64>> =
            simulation.spans.iter().map(|spans| vec![0.0; spans.len()]).collect();
        for (rank_idx, spans) in simulation.spans.iter().enumerate() {
            for op_idx in 1..spans.len() {
                earliest[rank_idx][op_idx] = spans[op_idx - 1].end_us;
            }
        }
        for transfer in &simulation.transfers {
            let (src, dst) = (transfer.src, transfer.dst);
            let sent_us = simulation.spans[src.0][src.1].end_us;
            prop_assert!(transfer.arrival_us >= sent_us + latency_us + 0.25 - 1e-9);
            earliest[dst.0][dst.1] = earliest[dst.0][dst.1].max(transfer.arrival_us);
            if num_recv_buffers.is_some() && src.1 + 1 < earliest[src.0].len() {
                earliest[src.0][src.1 + 1] = earliest[src.0][src.1 + 1].max(transfer.arrival_us);
            }
        }
        for (spans, earliest) in simulation.spans.iter().zip(&earliest) {
            let starts: Vec<f64> = spans.iter().map(|span| span.start_us).collect();
            prop_assert_eq!(&starts, earliest);
        }
        prop_assert_eq!(simulate(&schedule, &costs).expect("simulate"), simulation);
    }

    #[test]
    fn dearer_messages_slower_ranks_and_blocking_never_shorten_the_step(
        case in cases(),
        times in stage_times(),
        rank_idx in 0..9_usize,
        factor in 1.0..4.0_f64,
        latency_us in 0.0..3.0_f64,
    ) {
        let schedule = case.schedule();
        let base = Costs::uniform(times);
        let makespan = |costs: &Costs| simulate(&schedule, costs).expect("simulate").makespan_us;
        let plain = makespan(&base);
        let rank_idx = rank_idx % schedule.num_pp_ranks();
        let slow = Costs { slow_rank: Some(SlowRank { rank_idx, factor }), ..base.clone() };
        let link = Link { latency_us, ..Link::default() };
        let late = Costs { link, ..base.clone() };
        let blocking = |num_recv_buffers| Costs {
            sends: Sends::Blocking { num_recv_buffers },
            ..late.clone()
        };
        prop_assert!(makespan(&slow) >= plain - 1e-9);
        prop_assert!(makespan(&late) >= plain - 1e-9);
        prop_assert!(makespan(&blocking(1)) >= makespan(&blocking(4)) - 1e-9);
        prop_assert!(makespan(&blocking(4)) >= makespan(&late) - 1e-9);
    }

    #[test]
    fn times_given_for_each_rank_count_as_given(case in cases(), times in stage_times()) {
        let schedule = case.schedule();
        let uniform = Costs::uniform(times);
        let per_rank = Costs {
            times: Times::PerRank(vec![[times; 2]; schedule.num_pp_ranks()]),
            ..uniform.clone()
        };
        let run = |costs: &Costs| simulate(&schedule, costs).expect("simulate");
        prop_assert_eq!(run(&uniform), run(&per_rank));
        let scaled = run(&Costs::uniform(times.scaled(2.0)));
        prop_assert_eq!(scaled.makespan_us, 2.0 * run(&uniform).makespan_us);
    }
}

#[test]
fn a_message_waits_for_the_one_before_it_on_the_link() {
    use moekit::pipeline::{ScheduleKind, StageTimes};
    // Forwards take 1 us, messages 3 us: rank 1 gets chunk m at 1 + 3 (m + 1), then latency.
    let schedule = Schedule::generate(ScheduleKind::GPipe, 2, 3).expect("generate");
    let costs = Costs {
        link: Link { latency_us: 0.5, bandwidth_gbps: 1.0, message_bytes: 3000.0 },
        ..Costs::uniform(StageTimes::default())
    };
    let simulation = simulate(&schedule, &costs).expect("simulate");
    let starts: Vec<f64> = simulation.spans[1][..3].iter().map(|span| span.start_us).collect();
    assert_eq!(starts, [4.5, 7.5, 10.5]);
}
