//! mbarriers: who made them, and what their phases pass on.

use super::clock::{Known, Seen};
use super::shadow::Mark;

/// An mbarrier that was initialised.
pub(crate) struct Mbarrier {
    /// The agent that stands for what completes in its phases; the clock is the phase's number.
    pub slot: u16,
    /// The current phase, from 1.
    pub phase: u32,
    /// Its initialisation, and whether the thread has fenced it since.
    pub made: Mark,
    pub is_fenced: bool,
    /// Whether that was a `fence.mbarrier_init`, and the phase of the cluster's barrier at which the thread then
    /// arrived with `.relaxed`: whoever has passed it knows the mbarrier.
    pub is_released: bool,
    pub published: Option<u32>,
    gathered: Seen,
    passed: Seen,
    /// The last instruction that told it of bytes to come or that had come.
    pub last_bytes: Option<Mark>,
    /// Bytes that this phase was told to expect, and those of operations issued in it.
    pub expected: u64,
    pub issued: u64,
}

impl Mbarrier {
    pub(crate) fn new(slot: u16, phase: u32, made: Mark) -> Self {
        let (gathered, passed) = (Seen::default(), Seen::default());
        Mbarrier {
            slot,
            phase,
            made,
            is_fenced: false,
            is_released: false,
            published: None,
            gathered,
            passed,
            last_bytes: None,
            expected: 0,
            issued: 0,
        }
    }

    /// A thread arrives.
    pub(crate) fn arrive(&mut self, seen: &Seen) {
        self.gathered.join(seen);
    }

    /// The phase ends; returns the bytes issued in it that it did not wait for.
    pub(crate) fn end_phase(&mut self) -> u64 {
        let gathered = std::mem::take(&mut self.gathered);
        self.passed.join(&gathered);
        self.passed.generic.add(self.slot, Known::all(self.phase));
        self.phase += 1;
        let (issued, expected) =
            (std::mem::take(&mut self.issued), std::mem::take(&mut self.expected));
        issued.saturating_sub(expected)
    }

    /// What the phases that have ended pass on.
    pub(crate) fn passed(&self) -> &Seen {
        &self.passed
    }
}
