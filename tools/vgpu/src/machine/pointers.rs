//! Addresses to host pointers, with bounds.

use super::Trap;
use super::exec::Exec;
use super::lanes::each_lane;
use crate::fault::FaultKind;
use crate::ops::LANES;
use crate::program::inst::Space;
use crate::program::{
    INLINED_PARAMS, LOCAL_WINDOW, PARAM_WINDOW, RESERVED_SHARED, Reg, SHARED_WINDOW, WINDOW_BYTES,
};

/// What an access does, for messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Read,
    Write,
    Atomic,
}

impl Exec<'_, '_> {
    /// The lanes' addresses.
    pub(super) fn addresses(&self, reg: Reg, wide: bool, offset: i32) -> [u64; LANES] {
        if wide {
            self.warp.registers.r64(reg).map(|base| base.wrapping_add_signed(offset.into()))
        } else {
            self.warp.registers.r32(reg).map(|base| base.wrapping_add_signed(offset).into())
        }
    }

    /// Host pointers of the active lanes' `bytes` bytes; null for the other lanes.
    pub(super) fn pointers(
        &mut self,
        space: Space,
        addresses: &[u64; LANES],
        active: u32,
        bytes: u64,
        kind: Kind,
    ) -> Result<[*mut u8; LANES], Trap> {
        let align = bytes.next_power_of_two().min(16) - 1;
        let mut out = [std::ptr::null_mut(); LANES];
        if addresses.iter().fold(0, |all, address| all | address) & align != 0
            && let Some(lane) = super::lanes_of(active).find(|lane| addresses[*lane] & align != 0)
        {
            return Err(self.misaligned(space, addresses[lane], bytes, kind, lane));
        }
        let (low, high) = extent(addresses, active);
        // Most often all lanes are in one allocation, or in the block's own shared memory.
        if let Some(base) = self.near(space, low, high.wrapping_sub(low).wrapping_add(bytes), kind)
        {
            each_lane(active, |lane| {
                out[lane] = base.wrapping_add((addresses[lane] - low) as usize);
            });
            return Ok(out);
        }
        for lane in super::lanes_of(active) {
            let address = addresses[lane];
            out[lane] = match self.near(space, address, bytes, kind) {
                Some(pointer) => pointer,
                None => self.pointer(space, address, bytes, kind, lane)?,
            };
        }
        Ok(out)
    }

    /// The host pointer of bytes of the allocation of the last access, or of the own CTA's shared memory.
    #[inline(always)]
    fn near(&mut self, space: Space, address: u64, bytes: u64, kind: Kind) -> Option<*mut u8> {
        let global = self.grid.view.host(space, address, bytes);
        global.or_else(|| self.own_shared(space, address, bytes, kind))
    }

    /// The host pointer of bytes of the own CTA's shared memory, if no product reads that.
    #[inline(always)]
    fn own_shared(
        &mut self,
        space: Space,
        address: u64,
        bytes: u64,
        kind: Kind,
    ) -> Option<*mut u8> {
        let at = match space {
            Space::Shared => address,
            Space::Generic => address.wrapping_sub(SHARED_WINDOW),
            _ => return None,
        };
        let offset = at.wrapping_sub((self.warp.cta as u64) << 24);
        let cta = &mut self.cluster.ctas[self.warp.cta];
        let inside = offset >= RESERVED_SHARED.into()
            && offset < 1 << 24
            && bytes <= u64::from(cta.shared_bytes).saturating_sub(offset);
        let free = kind == Kind::Read || cta.pins.is_empty();
        (inside && free).then(|| cta.shared_ptr().wrapping_add(offset as usize))
    }

    /// The host pointer of one lane's bytes.
    pub(super) fn pointer(
        &mut self,
        space: Space,
        address: u64,
        bytes: u64,
        kind: Kind,
        lane: usize,
    ) -> Result<*mut u8, Trap> {
        let is_shared = space == Space::Shared
            || space == Space::Generic && (SHARED_WINDOW..LOCAL_WINDOW).contains(&address);
        if is_shared && kind != Kind::Read {
            let checked = self.cluster.check_write(address as u32, bytes);
            checked.map_err(|kind| Trap::new(kind, lane as u32))?;
        }
        let found = match space {
            Space::Shared => self.cluster.shared(address as u32, bytes),
            Space::Local => self.local(address & 0xffff_ffff, bytes, lane),
            Space::Param => self.param(address, bytes, lane),
            Space::Generic => match address {
                SHARED_WINDOW..LOCAL_WINDOW => self.cluster.shared(address as u32, bytes),
                LOCAL_WINDOW..PARAM_WINDOW => self.local(address & 0xffff_ffff, bytes, lane),
                _ if address.wrapping_sub(PARAM_WINDOW) < WINDOW_BYTES => {
                    self.param(address - PARAM_WINDOW, bytes, lane)
                }
                _ => self.grid.view.find(address, bytes),
            },
            Space::Global => self.grid.view.find(address, bytes),
        };
        found.ok_or_else(|| self.out_of_bounds(space, address, bytes, kind, lane))
    }

    fn local(&mut self, offset: u64, bytes: u64, lane: usize) -> Option<*mut u8> {
        let size = u64::from(self.kernel.local_bytes);
        let base: *mut u8 = self.warp.local.as_mut_ptr().cast();
        let at = lane * size as usize + offset as usize;
        (offset + bytes <= size).then(|| base.wrapping_add(at))
    }

    fn param(&mut self, offset: u64, bytes: u64, lane: usize) -> Option<*mut u8> {
        let inlined = u64::from(INLINED_PARAMS);
        if offset >= inlined {
            return self.local(offset - inlined, bytes, lane);
        }
        let params = &mut self.grid.params;
        let inside = offset + bytes <= params.len() as u64 * 16;
        inside.then(|| params.as_mut_ptr().cast::<u8>().wrapping_add(offset as usize))
    }

    fn misaligned(&self, space: Space, address: u64, bytes: u64, kind: Kind, lane: usize) -> Trap {
        let access = describe(space, kind);
        Trap::new(FaultKind::Misaligned { access, address, bytes }, lane as u32)
    }

    fn out_of_bounds(
        &self,
        space: Space,
        address: u64,
        bytes: u64,
        kind: Kind,
        lane: usize,
    ) -> Trap {
        let is_shared = space == Space::Shared
            || space == Space::Generic && (SHARED_WINDOW..LOCAL_WINDOW).contains(&address);
        let hint = match space {
            _ if is_shared => {
                let end = self.cluster.ctas[0].shared_bytes;
                format!(": shared memory is {RESERVED_SHARED:#x} to {end:#x}")
            }
            Space::Local => format!(": a thread has {} bytes", self.kernel.local_bytes),
            Space::Param => format!(": there are {} bytes", self.kernel.param_bytes()),
            _ => self.grid.memory.describe(address),
        };
        let access = describe(space, kind);
        Trap::new(FaultKind::OutOfBounds { access, address, bytes, hint }, lane as u32)
    }
}

/// The lowest and the highest address of the active lanes.
#[inline(always)]
fn extent(addresses: &[u64; LANES], active: u32) -> (u64, u64) {
    let (mut low, mut high) = (u64::MAX, 0);
    each_lane(active, |lane| {
        low = low.min(addresses[lane]);
        high = high.max(addresses[lane]);
    });
    (low, high)
}

fn describe(space: Space, kind: Kind) -> String {
    let space = match space {
        Space::Generic => "generic",
        Space::Global => "global",
        Space::Shared => "shared",
        Space::Local => "local",
        Space::Param => "param",
    };
    let kind = match kind {
        Kind::Read => "read",
        Kind::Write => "write",
        Kind::Atomic => "atomic",
    };
    format!("{space} {kind}")
}
