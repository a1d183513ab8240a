//! What the machine does, told to the checkers. With no checker each of these does nothing.

mod harmless;
mod mbarriers;
mod memory;
mod synchronise;
mod transfers;
mod values;

use super::exec::Exec;
use super::{Earlier, Trap, lanes_of};
use crate::check::{Conflict, EVERY_LANE, Mark, Nature, Wrong};
use crate::fault::FaultKind;
use crate::ops::LANES;
use crate::program::inst;
use crate::program::{LOCAL_WINDOW, PARAM_WINDOW, RESERVED_SHARED, SHARED_WINDOW, WINDOW_BYTES};

/// An address in a space that threads share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::machine) enum Space {
    /// Block and offset.
    Shared(u32),
    Global(u64),
}

impl Space {
    /// `None` for memory that belongs to one thread or is never written.
    #[inline(always)]
    fn of(space: inst::Space, address: u64) -> Option<Self> {
        match space {
            inst::Space::Shared => Some(Space::Shared(address as u32)),
            inst::Space::Global => Some(Space::Global(address)),
            inst::Space::Generic => Space::of_generic(address),
            inst::Space::Local | inst::Space::Param => None,
        }
    }

    fn of_generic(address: u64) -> Option<Self> {
        match address {
            SHARED_WINDOW..LOCAL_WINDOW => Some(Space::Shared(address as u32)),
            LOCAL_WINDOW..PARAM_WINDOW => None,
            _ if address.wrapping_sub(PARAM_WINDOW) < WINDOW_BYTES => None,
            _ => Some(Space::Global(address)),
        }
    }

    fn address(self) -> u64 {
        match self {
            Space::Shared(at) => at.into(),
            Space::Global(at) => at,
        }
    }

    fn plus(self, bytes: u64) -> Self {
        match self {
            Space::Shared(at) => Space::Shared(at + bytes as u32),
            Space::Global(at) => Space::Global(at + bytes),
        }
    }
}

/// Lanes by their address: the first, and all that have the same.
pub(super) fn same_address(
    addresses: &[u64; LANES],
    active: u32,
) -> impl Iterator<Item = (usize, u32)> {
    let mut left = active;
    std::iter::from_fn(move || {
        let first = lanes_of(left).next()?;
        let same = lanes_of(left).filter(|lane| addresses[*lane] == addresses[first]);
        let same = same.fold(0, |mask, lane| mask | 1 << lane);
        left &= !same;
        Some((first, same))
    })
}

impl Mark {
    fn site(&self) -> Earlier {
        Earlier { pc: self.pc, cluster: self.cluster, warp: self.warp, lane: self.lane }
    }
}

impl Exec<'_, '_> {
    /// Where bytes lie, in words.
    fn hint(&self, place: Space) -> String {
        match place {
            Space::Global(at) => self.grid.memory.describe(at),
            Space::Shared(at) => {
                let (rank, offset) = ((at >> 24) as usize, at & 0x00ff_ffff);
                let [x, y, z] = self.cluster.ctas[rank].position;
                let byte = offset - RESERVED_SHARED;
                let dynamic = self.kernel.dynamic_base;
                match offset.checked_sub(dynamic) {
                    Some(byte) => {
                        format!(": byte {byte} of block ({x}, {y}, {z})'s dynamic shared memory")
                    }
                    None => format!(": byte {byte} of block ({x}, {y}, {z})'s shared memory"),
                }
            }
        }
    }

    /// The fault of two accesses.
    fn conflict(
        &self,
        conflict: &Conflict,
        access: String,
        place: Space,
        bytes: u64,
        lane: usize,
    ) -> Trap {
        let (address, hint) = (place.address(), self.hint(place));
        let Conflict { wrong, earlier, earlier_writes, lane: other } = *conflict;
        let verb = if earlier_writes { "write" } else { "read" };
        let (what, kind) = match wrong {
            Wrong::Unfenced => {
                ("the generic write", FaultKind::Proxy { access, address, bytes, hint })
            }
            Wrong::Mbarrier => {
                let message = format!("{access} at {address:#x} over a valid mbarrier{hint}");
                ("its initialisation", FaultKind::Misuse(message))
            }
            Wrong::Unordered => {
                let earlier = match earlier.nature {
                    Nature::Async | Nature::Reduction | Nature::Copy | Nature::Store => format!(
                        "an asynchronous {verb} that this thread does not know to have ended"
                    ),
                    Nature::Mbarrier => "the initialisation of an mbarrier".to_owned(),
                    Nature::Weak => format!("an earlier {verb}"),
                    Nature::Cta | Nature::Cluster | Nature::Gpu => {
                        format!("an earlier strong {verb}")
                    }
                };
                let what = if earlier_writes { "the earlier write" } else { "the earlier read" };
                (what, FaultKind::Race { access, address, bytes, earlier, hint })
            }
        };
        let other = if other == EVERY_LANE { 0 } else { other };
        Trap::new(kind, lane as u32).after(what, Earlier { lane: other, ..earlier.site() })
    }
}
