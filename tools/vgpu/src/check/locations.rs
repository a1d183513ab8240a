//! What was released at addresses of flags and locks.

use std::collections::HashMap;
use std::sync::Arc;

use super::clock::merge;
use super::shadow::Nature;
use super::threads::{Fence, Release, Threads};

/// Releases by the address of the value that carries them.
#[derive(Default)]
pub(crate) struct Locations(HashMap<u64, Vec<Release>>);

/// A strong access to a value.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Strong {
    pub address: u64,
    /// Who hears of it, and who makes it.
    pub scope: Nature,
    pub cluster: u32,
    pub block: u16,
    pub acquires: bool,
    pub releases: bool,
}

impl Strong {
    /// Each is in the scope of the other.
    fn reaches(&self, release: &Release) -> bool {
        let near = match self.cluster == release.cluster {
            true if self.block == release.block => Nature::Cta,
            true => Nature::Cluster,
            false => Nature::Gpu,
        };
        self.scope.min(release.scope) >= near
    }
}

impl Locations {
    /// Threads read the value.
    pub(crate) fn read(&self, threads: &mut Threads, lanes: u32, access: &Strong) {
        let Some(all) = self.0.get(&access.address) else { return };
        for release in all.iter().filter(|release| access.reaches(release)) {
            threads.find(lanes, release, access.acquires);
        }
    }

    /// A thread writes the value; an atomic one keeps what was released there before.
    pub(crate) fn write(
        &mut self,
        threads: &mut Threads,
        lane: usize,
        access: &Strong,
        is_atomic: bool,
    ) {
        let fence = match access.releases {
            true => {
                let seen = threads.release(1 << lane);
                let (generic, fenced) =
                    (seen.generic.export(access.cluster), seen.fenced.export(access.cluster));
                Some(Fence { scope: access.scope, generic, fenced })
            }
            false => threads.fence_of(lane),
        };
        if !is_atomic {
            self.0.remove(&access.address);
        }
        let Some(Fence { scope, generic, fenced }) = fence else { return };
        let Strong { cluster, block, .. } = *access;
        let scope = scope.min(access.scope);
        let new = Release { scope, cluster, block, generic, fenced };
        let all = self.0.entry(access.address).or_default();
        let alike = |old: &&mut Release| {
            old.scope == new.scope
                && (scope == Nature::Gpu || old.cluster == cluster)
                && (scope != Nature::Cta || old.block == block)
        };
        match all.iter_mut().find(alike) {
            Some(old) if Arc::ptr_eq(&old.generic, &new.generic) => {}
            Some(old) => {
                merge(Arc::make_mut(&mut old.generic), &new.generic);
                merge(Arc::make_mut(&mut old.fenced), &new.fenced);
            }
            None => all.push(new),
        }
    }
}
