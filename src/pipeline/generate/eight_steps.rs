//! The order that DualPipe and DualPipeV share: eight steps around an overlapped steady state.

use super::RankBuilder;

/// One rank's place in the eight steps.
#[derive(Clone, Copy)]
pub(super) struct EightSteps {
    /// Ranks between the end where the near direction enters and the turning point.
    pub depth: usize,
    /// This rank's distance from that end, below `depth`.
    pub position: usize,
    /// Chunks of each direction.
    pub num_chunks: usize,
    /// The direction whose chunks enter at this rank's end.
    pub near: u8,
}

pub(super) fn eight_steps(rank: &mut RankBuilder, place: EightSteps) {
    let EightSteps { depth, position, num_chunks, near } = place;
    let far = 1 - near;
    let num_below = depth - 1 - position;

    // 1: the near direction alone, until the far one arrives.
    for _ in 0..2 * num_below {
        rank.forward(near);
    }
    // 2: both directions go forward.
    for _ in 0..position + 1 {
        rank.forward(near);
        rank.forward(far);
    }
    // 3: the far direction turns; its gradients go on before the weights are seen to.
    for _ in 0..num_below {
        rank.backward_input(far);
        rank.weight();
        rank.forward(far);
    }
    // 4: the steady state.
    for round in 0..num_chunks + position + 1 - 2 * depth {
        if round == 0 && num_below == 0 {
            // At the turning point both neighbours wait for these two: apart, they are done sooner.
            rank.forward(near);
            rank.backward(far);
        } else {
            rank.overlapped(near, far);
        }
        rank.overlapped(far, near);
    }
    // 5: the near direction has no forwards left.
    for _ in 0..num_below {
        rank.backward(far);
        rank.overlapped(far, near);
    }
    drain(rank, place);
}

/// Steps 6 to 8: backwards alone, the later ones without their weights, which fill the end.
fn drain(rank: &mut RankBuilder, EightSteps { depth, position, near, .. }: EightSteps) {
    let far = 1 - near;
    let num_below = depth - 1 - position;
    let num_pairs = position + 1;

    // 6: of the 2 * num_pairs backwards, the last num_pairs are for inputs only.
    for backward_idx in 0..2 * num_pairs {
        let direction = if backward_idx % 2 == 0 { far } else { near };
        if backward_idx < num_pairs {
            rank.backward(direction);
        } else {
            rank.backward_input(direction);
        }
    }
    // 7: weights while the near direction's last gradients arrive.
    for _ in 0..num_below {
        rank.weight();
        rank.backward_input(near);
    }
    // 8: the weights that are left.
    for _ in 0..num_pairs {
        rank.weight();
    }
}
