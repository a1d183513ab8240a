//! What barriers of blocks and clusters pass on.

use super::clock::Seen;

/// A barrier: what those that arrived know, by the phase they arrived in.
#[derive(Default)]
pub(crate) struct Meeting {
    phase: u32,
    gathered: Seen,
    /// What all phases before have passed on.
    passed: Seen,
    /// The instruction, warp and lane that first arrived in this phase.
    pub first: Option<(u32, u16, u8)>,
}

impl Meeting {
    /// Threads arrive in a phase.
    pub(crate) fn arrive(&mut self, phase: u32, seen: &Seen, site: (u32, u16, u8)) {
        if phase != self.phase {
            self.passed.join(&std::mem::take(&mut self.gathered));
            self.phase = phase;
            self.first = None;
        }
        self.first.get_or_insert(site);
        self.gathered.join(seen);
    }

    /// What a phase that has ended passes on.
    pub(crate) fn passed(&self, phase: u32) -> &Seen {
        if phase == self.phase { &self.gathered } else { &self.passed }
    }
}
