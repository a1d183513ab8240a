//! What the threads of a warp know: threads that know the same are one group.

use std::sync::Arc;

use super::clock::{Known, Remote, Seen, merge};
use super::shadow::Nature;

/// Threads that know the same of everybody but themselves.
#[derive(Clone, Debug)]
struct Group {
    lanes: u32,
    seen: Seen,
    /// What their last fence made known to those that read what they write from then on.
    fence: Option<Fence>,
    /// What relaxed reads have found, which the next fence takes over.
    found: Option<Box<Found>>,
}

/// What was known at a fence, for readers in its scope.
#[derive(Clone, Debug)]
pub(crate) struct Fence {
    pub scope: Nature,
    pub generic: Arc<Remote>,
    pub fenced: Arc<Remote>,
}

/// What was released at a place in memory.
#[derive(Clone, Debug)]
pub(crate) struct Release {
    /// How far, and by which block of which cluster.
    pub scope: Nature,
    pub cluster: u32,
    pub block: u16,
    pub generic: Arc<Remote>,
    pub fenced: Arc<Remote>,
}

/// Releases that a fence takes over.
#[derive(Clone, Debug, Default)]
struct Found {
    generic: Arc<Remote>,
    fenced: Arc<Remote>,
}

/// A warp's threads.
#[derive(Debug)]
pub(crate) struct Threads {
    /// Its slot, which is its number in the cluster.
    slot: u16,
    cluster: u32,
    /// Threads that the launch gave it.
    all: u32,
    /// Its time, which goes on when others may learn of it.
    clock: u32,
    groups: Vec<Group>,
}

impl Threads {
    pub(crate) fn new(cluster: u32, slot: u16, all: u32) -> Self {
        let group = Group { lanes: u32::MAX, seen: Seen::default(), fence: None, found: None };
        Threads { slot, cluster, all, clock: 1, groups: vec![group] }
    }

    pub(crate) fn clock(&self) -> u32 {
        self.clock
    }

    /// All threads know the same.
    pub(crate) fn is_one_group(&self) -> bool {
        self.groups.len() == 1
    }

    /// What a thread knows; of itself it knows everything besides.
    #[inline(always)]
    pub(crate) fn seen(&self, lane: usize) -> &Seen {
        let group = self.groups.iter().find(|group| group.lanes >> lane & 1 == 1);
        &group.unwrap_or(&self.groups[0]).seen
    }

    /// The groups of some threads, split off from the others.
    fn take(&mut self, lanes: u32) -> impl Iterator<Item = &mut Group> {
        let mut split = Vec::new();
        for group in &mut self.groups {
            let (inside, outside) = (group.lanes & lanes, group.lanes & !lanes & self.all);
            if inside & self.all != 0 && outside != 0 {
                split.push(Group { lanes: outside, ..group.clone() });
                group.lanes = inside;
            }
        }
        self.groups.extend(split);
        self.groups.iter_mut().filter(move |group| group.lanes & lanes != 0)
    }

    /// What threads did until now.
    fn own(&self, lanes: u32) -> Known {
        match self.all & !lanes {
            0 => Known::all(self.clock),
            _ => Known::some(lanes, self.clock),
        }
    }

    /// What some threads know, themselves included; what they do from now on is not part of it.
    pub(crate) fn release(&mut self, lanes: u32) -> Seen {
        let mut out = self.peek(lanes);
        out.generic.add(self.slot, self.own(lanes));
        self.clock += 1;
        out
    }

    /// What some threads know of others.
    fn peek(&self, lanes: u32) -> Seen {
        let mut groups = self.groups.iter().filter(|group| group.lanes & lanes & self.all != 0);
        let mut out = groups.next().map(|group| group.seen.clone()).unwrap_or_default();
        groups.for_each(|group| out.join(&group.seen));
        out
    }

    /// Some threads learn something.
    pub(crate) fn acquire(&mut self, lanes: u32, seen: &Seen) {
        self.take(lanes).for_each(|group| group.seen.join(seen));
    }

    /// `change` what some threads know.
    pub(crate) fn learn(&mut self, lanes: u32, mut change: impl FnMut(&mut Seen)) {
        self.take(lanes).for_each(|group| change(&mut group.seen));
    }

    /// Threads that wait for each other know the same from here on.
    pub(crate) fn meet(&mut self, lanes: u32) {
        let seen = self.release(lanes);
        self.adopt(lanes, &seen);
    }

    /// Some threads, which have met, learn the same.
    pub(crate) fn adopt(&mut self, lanes: u32, seen: &Seen) {
        if self.all & !lanes != 0 || self.groups.iter().any(|it| it.found.is_some()) {
            return self.acquire(lanes, seen);
        }
        // All of the warp: one group is left.
        let mut one = self.groups.swap_remove(0);
        let mut seen = seen.clone();
        seen.join(&one.seen);
        for group in self.groups.drain(..) {
            seen.join(&group.seen);
            one.fence = match (one.fence, group.fence) {
                (Some(mut mine), Some(theirs)) => {
                    mine.scope = mine.scope.max(theirs.scope);
                    merge(Arc::make_mut(&mut mine.generic), &theirs.generic);
                    merge(Arc::make_mut(&mut mine.fenced), &theirs.fenced);
                    Some(mine)
                }
                (mine, theirs) => mine.or(theirs),
            };
        }
        self.groups.push(Group { lanes: u32::MAX, seen, ..one });
    }

    /// A fence of the memory of a scope.
    pub(crate) fn fence(&mut self, lanes: u32, scope: Nature) {
        let (cluster, slot, own) = (self.cluster, self.slot, self.own(lanes));
        for group in self.take(lanes) {
            if let Some(found) = group.found.take() {
                group.seen.generic.import(cluster, &found.generic);
                group.seen.fenced.import(cluster, &found.fenced);
            }
            let mut generic = group.seen.generic.clone();
            generic.add(slot, own);
            let fenced = group.seen.fenced.export(cluster);
            group.fence = Some(Fence { scope, generic: generic.export(cluster), fenced });
        }
        self.clock += 1;
    }

    /// `fence.proxy.async`: what is known is known to the async proxy too.
    pub(crate) fn fence_proxy(&mut self, lanes: u32) {
        let (slot, own) = (self.slot, self.own(lanes));
        for group in self.take(lanes) {
            group.seen.fenced.join(&group.seen.generic);
            group.seen.fenced.add(slot, own);
        }
        self.clock += 1;
    }

    /// What a relaxed write of a thread tells those that read it: what the thread's last fence did.
    pub(crate) fn fence_of(&self, lane: usize) -> Option<Fence> {
        self.groups.iter().find(|group| group.lanes >> lane & 1 == 1)?.fence.clone()
    }

    /// Reads found a release; without `acquires` it takes effect at the next fence.
    pub(crate) fn find(&mut self, lanes: u32, release: &Release, acquires: bool) {
        let cluster = self.cluster;
        for group in self.take(lanes) {
            if acquires {
                group.seen.generic.import(cluster, &release.generic);
                group.seen.fenced.import(cluster, &release.fenced);
            } else {
                let found = group.found.get_or_insert_default();
                merge(Arc::make_mut(&mut found.generic), &release.generic);
                merge(Arc::make_mut(&mut found.fenced), &release.fenced);
            }
        }
    }
}
