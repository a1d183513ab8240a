//! The published bubbles.

use crate::pipeline::{Schedule, ScheduleKind, StageTimes};

/// Returns the published bubble of a generated schedule, in µs; `None` for one's own.
///
/// With `PP = num_pp_ranks`, times those of one pp_stage:
///
/// - GPipe, 1F1B and interleaved 1F1B: `(PP - 1) (F + B)`;
/// - ZB1P: `(PP - 1) (F + B - 2 W)`;
/// - DualPipe: `(PP / 2 - 1) (F&B + B - 3 W)`;
/// - DualPipeV: the same with `PP = 2 * num_pp_ranks` pp_stages.
///
/// With free messages and `num_chunks >= num_pp_ranks` it is the largest bubble of any rank
///
/// - for GPipe, 1F1B and interleaved 1F1B always;
/// - for ZB1P when `W <= min(F, I)`;
/// - for DualPipe and DualPipeV when `F = I`, `W <= F` and `max(F, B) <= F&B <= F + B`.
///
/// Elsewhere [`simulate`](crate::pipeline::simulate) rules.
///
/// # Source
///
/// DeepSeek's DualPipe, README, "Pipeline Bubbles and Memory Usage Comparison"; GPipe and
/// interleaved 1F1B: Narayanan et al. 2021, section 2.2.
pub fn closed_form_bubble_us(schedule: &Schedule, times: &StageTimes) -> Option<f64> {
    let StageTimes { f_us, b_us, w_us, fb_us } = *times;
    let num_pp_ranks = schedule.num_pp_ranks() as f64;
    let dualpipe = |num_pp_stages: f64| (num_pp_stages / 2.0 - 1.0) * (fb_us + b_us - 3.0 * w_us);
    Some(match schedule.kind? {
        ScheduleKind::GPipe | ScheduleKind::OneFOneB | ScheduleKind::Interleaved { .. } => {
            (num_pp_ranks - 1.0) * (f_us + b_us)
        }
        ScheduleKind::Zb1p => (num_pp_ranks - 1.0) * (f_us + b_us - 2.0 * w_us),
        ScheduleKind::DualPipe => dualpipe(num_pp_ranks),
        ScheduleKind::DualPipeV => dualpipe(2.0 * num_pp_ranks),
    })
}
