//! Random arguments that the generators accept.

use moekit::pipeline::{Schedule, ScheduleKind, StageTimes};
use proptest::prelude::*;

/// Arguments of a generator; prints shorter than its schedule.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    kind: ScheduleKind,
    num_pp_ranks: usize,
    num_chunks: usize,
}

impl Case {
    pub fn schedule(self) -> Schedule {
        Schedule::generate(self.kind, self.num_pp_ranks, self.num_chunks)
            .expect("the arguments are good")
    }
}

/// A schedule of up to 10 ranks.
pub fn cases() -> impl Strategy<Value = Case> {
    (0..6_usize, 1..=9_usize, 0..12_usize, 2..4_u32).prop_map(
        |(kind_idx, num_pp_ranks, extra, num_virtual_stages)| {
            let even = num_pp_ranks.next_multiple_of(2);
            let interleaved = ScheduleKind::Interleaved { num_virtual_stages };
            let (kind, num_pp_ranks, num_chunks) = match kind_idx {
                0 => (ScheduleKind::GPipe, num_pp_ranks, 1 + extra),
                1 => (ScheduleKind::OneFOneB, num_pp_ranks, 1 + extra),
                2 => (ScheduleKind::Zb1p, num_pp_ranks, 1 + extra),
                3 => (interleaved, num_pp_ranks, num_pp_ranks * (1 + extra % 4)),
                4 => (ScheduleKind::DualPipe, even, 2 * even + 2 * extra),
                _ => (ScheduleKind::DualPipeV, num_pp_ranks, 2 * num_pp_ranks + extra),
            };
            Case { kind, num_pp_ranks, num_chunks }
        },
    )
}

/// Times with W at most B, in eighths so that sums are exact.
pub fn stage_times() -> impl Strategy<Value = StageTimes> {
    (1..40_u32, 1..40_u32, 1..40_u32, 0..=20_u32).prop_map(|(f, i, w, saved)| {
        let eighths = |count: u32| f64::from(count) / 8.0;
        let (f_us, b_us) = (eighths(f), eighths(i + w));
        let fb_us = f_us.max(b_us) + (f_us + b_us - f_us.max(b_us)) * f64::from(saved) / 32.0;
        StageTimes { f_us, b_us, w_us: eighths(w), fb_us }
    })
}
