//! Proves a schedule valid, or says where it is not.

use crate::pipeline::memory::activations_alive;
use crate::pipeline::program::Program;
use crate::pipeline::run::run;
use crate::pipeline::{Fault, Link, Problem, Schedule, Sends};

/// What a schedule must keep to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// Receives that a rank posts ahead, for each sender and sort of message (activations or
    /// gradients); see [`Sends::Blocking`].
    pub num_recv_buffers: usize,
    /// Most activations alive on a rank, in chunks on one pp_stage.
    pub max_activations: Option<f64>,
    /// Part of a chunk's activations that stays alive between its I and its W, in [0, 1].
    pub kept_for_weights: f64,
}

/// One receive posted ahead, any amount of memory, all activations kept until W.
impl Default for Limits {
    fn default() -> Self {
        Self { num_recv_buffers: 1, max_activations: None, kept_for_weights: 1.0 }
    }
}

/// What is known of a valid schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Proof {
    /// Fewest receives posted ahead with which blocking sends do not deadlock.
    pub num_recv_buffers: usize,
    /// Messages between ranks.
    pub num_messages: usize,
}

/// Checks that a schedule does all the work once, in its place and in a possible order.
///
/// In this order: every cell lies on its rank and is done exactly once (F, and either B or I and
/// W); work comes after what it needs on its own rank; no circle of waits exists even when every
/// send blocks until its receiver has room; the activations stay below the limit.
///
/// # Errors
///
/// The first [`Problem`], with its rank, position and operation.
///
/// # Examples
///
/// ```
/// use moekit::pipeline::{Cell, Fault, Limits, Op, OpKind, Placement, Schedule, check};
///
/// let cell = Cell { direction: 0, pp_stage_idx: 0, chunk_idx: 0 };
/// let ops = vec![Op::Single(OpKind::B, cell), Op::Single(OpKind::F, cell)];
/// let schedule = Schedule::from_ops(Placement::Linear, 1, vec![ops])?;
/// let problem = check(&schedule, &Limits::default()).unwrap_err();
/// assert!(matches!(problem.fault, Fault::BeforeItsInput { .. }));
/// assert_eq!(problem.op.map(|(op_idx, op)| (op_idx, op.to_string())), Some((0, "B0".to_owned())));
/// # Ok::<(), moekit::Error>(())
/// ```
pub fn check(schedule: &Schedule, limits: &Limits) -> Result<Proof, Problem> {
    let program = Program::resolve(schedule)?;
    let durations: Vec<Vec<f64>> = schedule.ranks.iter().map(|ops| vec![1.0; ops.len()]).collect();
    let runs = |sends| run(&program, &durations, Link::default(), sends);
    let blocking = |num_recv_buffers| runs(Sends::Blocking { num_recv_buffers });
    runs(Sends::Buffered)?;
    blocking(limits.num_recv_buffers)?;
    check_memory(schedule, limits)?;

    // More buffers only help, so the fewest that do is found by halving.
    let (mut too_few, mut enough) = (None, limits.num_recv_buffers);
    while too_few.map_or(0, |few: usize| few + 1) < enough {
        let middle =
            too_few.map_or(0, |few| few + 1) + (enough - too_few.map_or(0, |few| few + 1)) / 2;
        if blocking(middle).is_ok() {
            enough = middle;
        } else {
            too_few = Some(middle);
        }
    }
    Ok(Proof { num_recv_buffers: enough, num_messages: program.messages.len() })
}

fn check_memory(schedule: &Schedule, limits: &Limits) -> Result<(), Problem> {
    let Some(max_activations) = limits.max_activations else { return Ok(()) };
    for (rank_idx, ops) in schedule.ranks.iter().enumerate() {
        let over = activations_alive(ops, limits.kept_for_weights)
            .enumerate()
            .find(|(_, num_activations)| num_activations.total_cmp(&max_activations).is_gt());
        if let Some((op_idx, num_activations)) = over {
            let fault = Fault::Memory { num_activations, max_activations };
            return Err(Problem { rank_idx, op: Some((op_idx, ops[op_idx])), fault });
        }
    }
    Ok(())
}
