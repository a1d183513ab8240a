//! Vector clocks: what an agent knows to have happened.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

/// Up to when the threads of an agent are known: all of them up to `base`, some up to `clock`. When
/// two clocks with several of these meet, the later one is taken for both: a race may be missed then,
/// never invented.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Known {
    base: u32,
    clock: u32,
    lanes: u32,
}

impl Known {
    /// All threads up to `clock`.
    pub(crate) fn all(clock: u32) -> Self {
        Known { base: clock, clock: 0, lanes: 0 }
    }

    /// Some threads up to `clock`.
    pub(crate) fn some(lanes: u32, clock: u32) -> Self {
        Known { base: 0, clock, lanes }
    }

    /// What all threads of `lanes` did at `clock` is known.
    #[inline(always)]
    pub(crate) fn covers(self, lanes: u32, clock: u32) -> bool {
        clock <= self.base || (clock <= self.clock && lanes & !self.lanes == 0)
    }

    #[inline(always)]
    pub(crate) fn join(&mut self, other: Known) {
        self.base = self.base.max(other.base);
        let mine = if self.clock > self.base { self.lanes } else { 0 };
        let theirs = if other.clock > self.base { other.lanes } else { 0 };
        let clock = if mine != 0 { self.clock } else { 0 };
        self.clock = if theirs != 0 { clock.max(other.clock) } else { clock };
        self.lanes = mine | theirs;
    }
}

/// What is known of other clusters: by cluster and slot.
pub(crate) type Remote = HashMap<(u32, u16), Known>;

/// What is known of each agent. Agents of the own cluster have slots.
#[derive(Clone, Debug, Default)]
pub(crate) struct Clock {
    local: Vec<Known>,
    remote: Option<Arc<Remote>>,
}

impl Clock {
    #[inline(always)]
    pub(crate) fn covers(&self, slot: u16, lanes: u32, clock: u32) -> bool {
        self.local.get(usize::from(slot)).is_some_and(|known| known.covers(lanes, clock))
    }

    pub(crate) fn covers_remote(&self, cluster: u32, slot: u16, lanes: u32, clock: u32) -> bool {
        let known = self.remote.as_ref().and_then(|remote| remote.get(&(cluster, slot)));
        known.is_some_and(|known| known.covers(lanes, clock))
    }

    pub(crate) fn add(&mut self, slot: u16, known: Known) {
        let at = usize::from(slot);
        if self.local.len() <= at {
            self.local.resize(at + 1, Known::default());
        }
        self.local[at].join(known);
    }

    /// Takes over what a clock of the same cluster knows.
    pub(crate) fn join(&mut self, other: &Clock) {
        if self.local.len() < other.local.len() {
            self.local.resize(other.local.len(), Known::default());
        }
        self.local.iter_mut().zip(&other.local).for_each(|(mine, theirs)| mine.join(*theirs));
        if let Some(remote) = &other.remote {
            self.join_remote(remote);
        }
    }

    fn join_remote(&mut self, other: &Arc<Remote>) {
        match &mut self.remote {
            None => self.remote = Some(other.clone()),
            Some(mine) if Arc::ptr_eq(mine, other) => {}
            Some(mine) => merge(Arc::make_mut(mine), other),
        }
    }

    /// The same for a reader of any cluster.
    pub(crate) fn export(&self, cluster: u32) -> Arc<Remote> {
        let mut out = self.remote.clone().unwrap_or_default();
        let all = Arc::make_mut(&mut out);
        for (slot, known) in self.local.iter().enumerate() {
            if *known != Known::default() {
                all.entry((cluster, slot as u16)).or_default().join(*known);
            }
        }
        out
    }

    /// Takes over what was exported; `cluster` is the clock's own.
    pub(crate) fn import(&mut self, cluster: u32, other: &Arc<Remote>) {
        if self.remote.as_ref().is_some_and(|mine| Arc::ptr_eq(mine, other)) {
            return;
        }
        for ((from, slot), known) in other.iter() {
            if *from == cluster {
                self.add(*slot, *known);
            }
        }
        self.join_remote(other);
    }
}

/// Adds what `from` knows to `into`.
pub(crate) fn merge(into: &mut Remote, from: &Remote) {
    for (agent, known) in from {
        match into.entry(*agent) {
            Entry::Occupied(mut mine) => mine.get_mut().join(*known),
            Entry::Vacant(place) => {
                place.insert(*known);
            }
        }
    }
}

/// What a thread knows: in the order of the program and its synchronisation, and of that what a proxy
/// fence has shown to the async proxy.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    pub generic: Clock,
    pub fenced: Clock,
}

impl Seen {
    pub(crate) fn join(&mut self, other: &Seen) {
        self.generic.join(&other.generic);
        self.fenced.join(&other.fenced);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn joined_clocks_cover_both() {
        let mut known = Known::some(1, 5);
        known.join(Known::all(3));
        assert!(known.covers(1, 5) && known.covers(u32::MAX, 3));
        assert!(!known.covers(2, 4) && !known.covers(1, 6));
        known.join(Known::all(5));
        assert_eq!(known, Known::all(5));
        known.join(Known::some(2, 4));
        assert_eq!(known, Known::all(5));
    }

    #[test]
    fn another_cluster_sees_what_was_exported() {
        let mut clock = Clock::default();
        clock.add(3, Known::all(7));
        let out = clock.export(9);
        let mut other = Clock::default();
        other.import(1, &out);
        assert!(other.covers_remote(9, 3, 1, 7) && !other.covers_remote(9, 3, 1, 8));
        assert!(!other.covers(3, 1, 7));
        let mut same = Clock::default();
        same.import(9, &out);
        assert!(same.covers(3, 1, 7));
    }
}
