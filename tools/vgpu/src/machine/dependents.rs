//! Grids that overlap: when the one behind begins, and when this one waits for the one in front.

use super::grid::{Cluster, Grid};
use super::warp::Wait;

impl Grid<'_> {
    /// Lets the grid behind begin if all blocks have ended or said that it may.
    pub(super) fn begin_dependents(&mut self, resident: &[Cluster]) {
        let may = |cluster: &Cluster| {
            cluster.state.ctas.iter().all(|cta| cta.alive == 0 || cta.lets_dependents_begin)
        };
        if resident.iter().all(may) {
            self.lets_dependents_begin = false;
            if let Some(dependents) = &self.shape.dependents {
                dependents.begin();
            }
        }
    }

    /// If nothing can go on before the grid in front has ended, waits for that.
    pub(super) fn waits_for_front(&self, resident: &[Cluster]) -> bool {
        let Some(front) = self.shape.front.as_ref().filter(|front| !front.has_come()) else {
            return false;
        };
        let waits = |cluster: &Cluster| {
            cluster.warps.iter().flat_map(|warp| &warp.splits).any(|it| it.wait == Wait::Grid)
        };
        let waits = resident.iter().any(waits);
        if waits {
            front.set_awaited();
            front.wait();
        }
        waits
    }
}
