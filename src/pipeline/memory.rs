//! Activations that are alive on a rank, from the order of its operations alone.

use crate::pipeline::{Op, OpKind};

/// Returns the activations alive while each operation runs, in chunks on one pp_stage.
///
/// A forward adds one. A full backward takes it away at its end; so does a backward for inputs, but
/// for the part `kept_for_weights`, which its W takes away.
pub(crate) fn activations_alive(ops: &[Op], kept_for_weights: f64) -> impl Iterator<Item = f64> {
    // Counted apart, so that the sum is exact for any part.
    let (mut num_whole, mut num_kept) = (0_i64, 0_i64);
    ops.iter().map(move |op| {
        num_whole += op.parts().filter(|(kind, _)| *kind == OpKind::F).count() as i64;
        let alive = num_whole as f64 + num_kept as f64 * kept_for_weights;
        for (kind, _) in op.parts() {
            match kind {
                OpKind::F => {}
                OpKind::B => num_whole -= 1,
                OpKind::I => (num_whole, num_kept) = (num_whole - 1, num_kept + 1),
                OpKind::W => num_kept -= 1,
            }
        }
        alive
    })
}

/// Returns the most activations alive on a rank.
pub(crate) fn peak_activations(ops: &[Op], kept_for_weights: f64) -> f64 {
    activations_alive(ops, kept_for_weights).fold(0.0, f64::max)
}
