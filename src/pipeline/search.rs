//! Ranks the schedules for given times and memory.

use std::cmp::Ordering;

use crate::pipeline::times::not_negative;
use crate::pipeline::{
    Costs, Link, Schedule, ScheduleKind, Sends, StageTimes, Times, closed_form_bubble_us, simulate,
};
use crate::{Error, Result};

/// What the schedules are compared for: the same model, ranks and chunks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SearchSpec {
    /// Ranks.
    pub num_pp_ranks: usize,
    /// Chunks of a step, both directions together.
    pub num_chunks: usize,
    /// Times of one chunk on one rank's share of the model, `1 / num_pp_ranks` of it. Schedules
    /// that cut the model finer have proportionally shorter pp_stages.
    pub times: StageTimes,
    /// Cost of the messages.
    pub link: Link,
    /// Part of a chunk's activations that stays alive between its I and its W, in [0, 1].
    pub kept_for_weights: f64,
    /// Bytes of the parameters of one rank's share of the model, with gradients and optimiser.
    pub parameter_bytes: f64,
    /// Bytes of the activations that one chunk leaves on one rank's share of the model.
    pub activation_bytes: f64,
    /// Memory of a rank; `None` = no limit.
    pub memory_limit_bytes: Option<f64>,
    /// Interleaved 1F1B is tried with 2 up to this many pp_stages per rank.
    pub max_virtual_stages: u32,
}

/// One schedule's place in the ranking.
#[derive(Debug)]
pub struct Candidate {
    /// The schedule.
    pub kind: ScheduleKind,
    /// What it would cost, or why the arguments do not suit it.
    pub outcome: Result<Outcome>,
}

/// What a schedule would cost.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Outcome {
    /// Length of a step, in µs.
    pub makespan_us: f64,
    /// Largest bubble of any rank, in µs.
    pub max_bubble_us: f64,
    /// The published bubble, in µs.
    pub closed_form_bubble_us: f64,
    /// Mean utilisation of the ranks.
    pub utilisation: f64,
    /// Largest peak of activations of any rank, in rank's shares (`1 / num_pp_ranks` of the model).
    pub peak_activations: f64,
    /// Parameters held, in rank's shares.
    pub parameters: f64,
    /// Parameters and activations of the fullest rank.
    pub memory_bytes: f64,
    /// Whether they are within the limit.
    pub fits: bool,
}

/// Simulates every schedule; returns those that fit by length of the step, then those that do not
/// fit, then those that the arguments do not suit.
///
/// # Errors
///
/// [`Error::Value`] for times, bytes or sizes out of range.
pub fn search(spec: &SearchSpec) -> Result<Vec<Candidate>> {
    for (arg, bytes) in [
        ("parameter_bytes", spec.parameter_bytes),
        ("activation_bytes", spec.activation_bytes),
        ("memory_limit_bytes", spec.memory_limit_bytes.unwrap_or(0.0)),
    ] {
        not_negative(arg, bytes)?;
    }
    if spec.max_virtual_stages > 64 {
        let got = spec.max_virtual_stages;
        return Err(Error::value("pipeline search", "max_virtual_stages", "at most 64", got));
    }
    // What is wrong for 1F1B, which takes any ranks and chunks, is wrong for all.
    evaluate(spec, ScheduleKind::OneFOneB)?;
    let interleaved = (2..=spec.max_virtual_stages)
        .map(|num_virtual_stages| ScheduleKind::Interleaved { num_virtual_stages });
    let kinds = [
        ScheduleKind::GPipe,
        ScheduleKind::OneFOneB,
        ScheduleKind::Zb1p,
        ScheduleKind::DualPipe,
        ScheduleKind::DualPipeV,
    ];
    let mut candidates: Vec<Candidate> = kinds
        .into_iter()
        .chain(interleaved)
        .map(|kind| Candidate { kind, outcome: evaluate(spec, kind) })
        .collect();
    candidates.sort_by(compare);
    Ok(candidates)
}

fn evaluate(spec: &SearchSpec, kind: ScheduleKind) -> Result<Outcome> {
    let schedule = Schedule::generate(kind, spec.num_pp_ranks, spec.num_chunks)?;
    let share = spec.num_pp_ranks as f64;
    let times = spec.times.scaled(share / schedule.num_pp_stages() as f64);
    let costs = Costs {
        times: Times::Uniform(times),
        link: spec.link,
        sends: Sends::Buffered,
        kept_for_weights: spec.kept_for_weights,
        ..Costs::uniform(times)
    };
    let simulation = simulate(&schedule, &costs)?;
    let peak_activations = simulation.max_model_activations() * share;
    let parameters = schedule.placement().model_share(spec.num_pp_ranks) * share;
    let memory_bytes = parameters * spec.parameter_bytes + peak_activations * spec.activation_bytes;
    Ok(Outcome {
        makespan_us: simulation.makespan_us,
        max_bubble_us: simulation.max_bubble_us(),
        closed_form_bubble_us: closed_form_bubble_us(&schedule, &times)
            .expect("the schedule is generated"),
        utilisation: simulation.utilisation(),
        peak_activations,
        parameters,
        memory_bytes,
        fits: spec.memory_limit_bytes.is_none_or(|limit| memory_bytes <= limit),
    })
}

fn compare(a: &Candidate, b: &Candidate) -> Ordering {
    match (&a.outcome, &b.outcome) {
        (Ok(a), Ok(b)) => b
            .fits
            .cmp(&a.fits)
            .then(a.makespan_us.total_cmp(&b.makespan_us))
            .then(a.memory_bytes.total_cmp(&b.memory_bytes)),
        (a, b) => a.is_err().cmp(&b.is_err()),
    }
}
