//! Simulates a schedule and measures it.

use crate::pipeline::memory::peak_activations;
use crate::pipeline::program::Program;
use crate::pipeline::run::run;
use crate::pipeline::{Costs, Schedule, Span};
use crate::{Error, Result};

/// A simulated step.
#[derive(Clone, Debug, PartialEq)]
pub struct Simulation {
    /// From the start of the first operation to the end of the last, in µs.
    pub makespan_us: f64,
    /// What each rank did.
    pub ranks: Vec<RankReport>,
    /// When each operation ran, by rank.
    pub spans: Vec<Vec<Span>>,
    /// Messages between ranks, ordered by sender.
    pub transfers: Vec<Transfer>,
}

/// What one rank did in a simulated step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RankReport {
    /// Time in operations, in µs.
    pub busy_us: f64,
    /// `makespan_us - busy_us`.
    pub bubble_us: f64,
    /// `busy_us / makespan_us`; 1 for an empty step.
    pub utilisation: f64,
    /// Most activations alive at once, in chunks on one pp_stage.
    pub peak_activations: f64,
    /// The same as a part of what one chunk leaves on the whole model.
    pub peak_model_activations: f64,
    /// Parameters held, in pp_stages.
    pub num_parameter_stages: usize,
    /// The same as a part of the model.
    pub model_share: f64,
}

/// One message between two ranks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Transfer {
    /// Rank and position of the operation whose result it carries.
    pub src: (usize, usize),
    /// Rank and position of the operation that needs it.
    pub dst: (usize, usize),
    /// When it is with the receiver, in µs.
    pub arrival_us: f64,
}

impl Simulation {
    /// Returns the largest bubble of any rank, in µs.
    pub fn max_bubble_us(&self) -> f64 {
        self.ranks.iter().map(|rank| rank.bubble_us).fold(0.0, f64::max)
    }

    /// Returns the mean utilisation of the ranks.
    pub fn utilisation(&self) -> f64 {
        self.ranks.iter().map(|rank| rank.utilisation).sum::<f64>() / self.ranks.len() as f64
    }

    /// Returns the largest peak of activations of any rank, as a part of what one chunk leaves on
    /// the whole model.
    pub fn max_model_activations(&self) -> f64 {
        self.ranks.iter().map(|rank| rank.peak_model_activations).fold(0.0, f64::max)
    }
}

/// Simulates one step of `schedule`.
///
/// A rank runs its operations in order, each as soon as the one before has ended and its inputs
/// have come. `bubble = makespan - busy` for each rank.
///
/// # Numerics
///
/// Deterministic: equal arguments give equal bits. Times are sums and maxima in f64.
///
/// # Errors
///
/// [`Error::Value`] for costs out of range,
/// [`Error::Schedule`] for a schedule that cannot run.
///
/// # Examples
///
/// ```
/// use moekit::pipeline::{Costs, Schedule, ScheduleKind, StageTimes, simulate};
///
/// let schedule = Schedule::generate(ScheduleKind::DualPipe, 8, 20)?;
/// let simulation = simulate(&schedule, &Costs::uniform(StageTimes::default()))?;
/// assert_eq!(simulation.makespan_us, 66.0);
/// assert_eq!(simulation.max_bubble_us(), 6.0);
/// # Ok::<(), moekit::Error>(())
/// ```
pub fn simulate(schedule: &Schedule, costs: &Costs) -> Result<Simulation> {
    costs.validate(schedule.num_pp_ranks())?;
    let program = Program::resolve(schedule).map_err(Error::Schedule)?;
    let outcome = run(&program, &costs.durations(schedule), costs.link, costs.sends)
        .map_err(Error::Schedule)?;
    let ends = outcome.spans.iter().filter_map(|spans| spans.last());
    let makespan_us = ends.map(|span| span.end_us).fold(0.0, f64::max);
    let ranks = (0..schedule.num_pp_ranks())
        .map(|rank_idx| report(schedule, costs, rank_idx, &outcome.spans[rank_idx], makespan_us))
        .collect();
    let transfers = program
        .messages
        .iter()
        .zip(&outcome.arrivals)
        .map(|(message, arrival_us)| Transfer {
            src: message.src,
            dst: message.dst,
            arrival_us: *arrival_us,
        })
        .collect();
    Ok(Simulation { makespan_us, ranks, spans: outcome.spans, transfers })
}

fn report(
    schedule: &Schedule,
    costs: &Costs,
    rank_idx: usize,
    spans: &[Span],
    makespan_us: f64,
) -> RankReport {
    let busy_us: f64 = spans.iter().map(|span| span.end_us - span.start_us).sum();
    let peak_activations = peak_activations(&schedule.ranks[rank_idx], costs.kept_for_weights);
    RankReport {
        busy_us,
        bubble_us: makespan_us - busy_us,
        utilisation: if makespan_us > 0.0 { busy_us / makespan_us } else { 1.0 },
        peak_activations,
        peak_model_activations: peak_activations / schedule.num_pp_stages() as f64,
        num_parameter_stages: schedule.placement.num_pp_stages_per_rank(),
        model_share: schedule.placement.model_share(schedule.num_pp_ranks()),
    }
}
