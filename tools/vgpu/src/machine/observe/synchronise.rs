//! Barriers and fences, for the checkers.

use crate::check::Nature;
use crate::machine::exec::Exec;
use crate::machine::log::{Event, Meeting};
use crate::machine::{Earlier, Trap};
use crate::program::inst::{Fence, Scope};

impl Exec<'_, '_> {
    fn arrival(&self, active: u32) -> (u32, u16, u8) {
        (self.pc, self.warp.number as u16, active.trailing_zeros() as u8)
    }

    /// Threads arrive at a barrier of their block.
    pub(in crate::machine) fn observe_arrival(&mut self, id: u8, phase: u32, active: u32) {
        let site = self.arrival(active);
        self.log(Event::Arrival { at: Meeting::Named { cta: self.warp.cta, id }, phase });
        let Some(check) = &mut self.cluster.check else { return };
        let seen = check.threads[self.warp.number].release(active);
        check.meetings.entry((self.warp.cta, id)).or_default().arrive(phase, &seen, site);
    }

    /// Threads go on behind a barrier of their block.
    pub(in crate::machine) fn observe_barrier_wait(&mut self, id: u8, phase: u32, active: u32) {
        self.log(Event::Wait { at: Meeting::Named { cta: self.warp.cta, id }, phase });
        let Some(check) = &mut self.cluster.check else { return };
        if let Some(meeting) = check.meetings.get(&(self.warp.cta, id)) {
            check.threads[self.warp.number].adopt(active, meeting.passed(phase));
        }
    }

    /// Adds to a barrier's fault who came to it first.
    pub(in crate::machine) fn after_first_arrival(&self, trap: Trap, id: u8) -> Trap {
        let check = self.cluster.check.as_ref();
        let meeting = check.and_then(|it| it.meetings.get(&(self.warp.cta, id)));
        match (check, meeting.and_then(|meeting| meeting.first)) {
            (Some(check), Some((pc, warp, lane))) => {
                let earlier = Earlier { pc, cluster: check.number, warp, lane };
                trap.after("the first arrival", earlier)
            }
            _ => trap,
        }
    }

    /// Threads arrive at the cluster's barrier.
    pub(in crate::machine) fn observe_cluster_arrival(&mut self, relaxed: bool, active: u32) {
        let (phase, site) = (self.cluster.phase, self.arrival(active));
        self.log(Event::Arrival { at: Meeting::Cluster, phase });
        let Some(check) = &mut self.cluster.check else { return };
        if !relaxed {
            let seen = check.threads[self.warp.number].release(active);
            check.cluster_meeting.arrive(phase, &seen, site);
            return;
        }
        for barrier in check.mbarriers_of(self.warp.number, active).filter(|it| it.is_released) {
            barrier.published = Some(phase);
        }
    }

    /// Threads go on behind the cluster's barrier.
    pub(in crate::machine) fn observe_cluster_wait(&mut self, phase: u32, active: u32) {
        self.log(Event::Wait { at: Meeting::Cluster, phase });
        let Some(check) = &mut self.cluster.check else { return };
        check.threads[self.warp.number].adopt(active, check.cluster_meeting.passed(phase));
    }

    /// `bar.warp.sync`.
    pub(in crate::machine) fn observe_warp_sync(&mut self, members: u32) {
        if let Some(check) = &mut self.cluster.check {
            check.threads[self.warp.number].meet(members);
        }
    }

    pub(in crate::machine) fn observe_fence(&mut self, fence: Fence, active: u32) {
        let Some(check) = &mut self.cluster.check else { return };
        let threads = &mut check.threads[self.warp.number];
        match fence {
            Fence::Memory(scope) => threads.fence(
                active,
                match scope {
                    Scope::Cta => Nature::Cta,
                    Scope::Cluster => Nature::Cluster,
                    Scope::Gpu | Scope::Sys => Nature::Gpu,
                },
            ),
            Fence::AsyncProxy => threads.fence_proxy(active),
            Fence::MbarrierInit => {}
        }
        if !matches!(fence, Fence::Memory(_)) {
            for barrier in check.mbarriers_of(self.warp.number, active) {
                barrier.is_fenced = true;
                barrier.is_released |= fence == Fence::MbarrierInit;
            }
        }
    }
}
