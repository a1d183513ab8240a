//! Products in flight. The four warps of a warpgroup issue a `wgmma` each for itself; it is formed
//! once, when all have, from bytes of shared memory at that moment: at once, at the first wait for
//! it or in between, as the launch's mode says. Its sum stays apart from the warps' registers until
//! each warp's own wait; until then nobody may look at those, so nobody can tell.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use super::cluster::{ClusterState, Cta, Site};
use super::multiply::{Lanes, Multiplier, ROWS, Task};
use super::operand::{CHUNK, Chunks, DEPTH, Factor, Pin};
use crate::fault::FaultKind;
use crate::ops::LANES;
use crate::program::RESERVED_SHARED;
use crate::program::matrix::Wgmma;

/// Warps of a warpgroup.
pub(super) const WARPS: usize = 4;
/// All of them.
const ALL: u8 = 0b1111;

/// A product that some warp has issued and not all have waited for.
pub(super) struct InFlight {
    pub op: Wgmma,
    pub pc: u32,
    /// Descriptors of A, if it is in shared memory, and B.
    pub descriptors: [Option<u64>; 2],
    /// The sum before counts.
    pub adds: bool,
    /// Its sum: place in [`Warpgroup::chains`].
    pub chain: usize,
    /// The warp of its warpgroup that came first.
    pub first_warp: usize,
    /// Rows of A that came from registers.
    a: Vec<u8>,
    /// Where the factors lie in shared memory.
    chunks: [Option<Arc<Chunks>>; 2],
    /// Warps that have issued it, and those that have waited for it.
    issued: u8,
    waited: u8,
    is_formed: bool,
}

impl InFlight {
    /// Chunks of shared memory that one warp's part of it reads: its rows of A, all of B.
    pub(super) fn chunks_of(&self, warp: usize) -> Vec<u32> {
        let [a, b] = [0, 1].map(|i| self.offsets(i));
        let share = a.len() / WARPS;
        [&a[warp * share..][..share], b].concat()
    }

    /// Those of a factor's chunks; none if it comes from registers.
    fn offsets(&self, i: usize) -> &[u32] {
        self.chunks[i].as_ref().map_or(&[], |chunks| &chunks.offsets)
    }

    fn factor(&self, i: usize) -> Option<Factor> {
        let rows = if i == 0 { WARPS * ROWS } else { usize::from(self.op.product.n) };
        let descriptor = self.descriptors[i]?;
        Some(Factor { descriptor, rows, transposed: self.op.transposed[i] })
    }
}

/// A sum that products in flight add to: the registers of the four warps, one after the other.
#[derive(Default)]
struct Chain {
    registers: Vec<Lanes>,
    /// Warps that have not taken it back.
    owners: u8,
}

/// What the warps of a warpgroup share.
#[derive(Default)]
pub(crate) struct Warpgroup {
    /// The oldest comes first.
    queue: VecDeque<InFlight>,
    /// Number of the oldest.
    first: u64,
    chains: Vec<Chain>,
}

impl Warpgroup {
    /// Product `number`, if a warp has issued it.
    pub(super) fn product(&mut self, number: u64) -> Option<&mut InFlight> {
        let at = number.checked_sub(self.first)?;
        self.queue.get_mut(at as usize)
    }

    /// Warps of the warpgroup that have not issued a product.
    pub(super) fn missing(&self, number: u64) -> Vec<usize> {
        let at = number.saturating_sub(self.first) as usize;
        let issued = match self.queue.get(at) {
            Some(product) => product.issued,
            None if number < self.first => ALL,
            None => 0,
        };
        (0..WARPS).filter(|warp| issued >> warp & 1 == 0).collect()
    }

    /// A free place for a sum.
    pub(super) fn open_chain(&mut self, num_registers: usize) -> usize {
        let at = self.chains.iter().position(|chain| chain.owners == 0).unwrap_or_else(|| {
            self.chains.push(Chain::default());
            self.chains.len() - 1
        });
        let chain = &mut self.chains[at];
        chain.owners = ALL;
        chain.registers.resize(WARPS * num_registers, [0; LANES]);
        at
    }

    /// A warp's part of a sum.
    pub(super) fn part(&mut self, chain: usize, warp: usize) -> &mut [Lanes] {
        let registers = &mut self.chains[chain].registers;
        let count = registers.len() / WARPS;
        &mut registers[warp * count..][..count]
    }

    /// A warp has its part of a sum back.
    pub(super) fn leave_chain(&mut self, chain: usize, warp: usize) {
        self.chains[chain].owners &= !(1 << warp);
    }

    /// A warp has waited for a product.
    pub(super) fn retire(&mut self, number: u64, warp: usize) {
        if let Some(product) = self.product(number) {
            product.waited |= 1 << warp;
        }
        while self.queue.front().is_some_and(|it| it.waited == ALL) {
            self.queue.pop_front();
            self.first += 1;
        }
    }

    /// The number of the oldest product that all warps have issued and that is not formed.
    pub(super) fn ready(&self) -> Option<u64> {
        let at = self.queue.iter().position(|it| !it.is_formed)?;
        (self.queue[at].issued == ALL).then_some(self.first + at as u64)
    }
}

impl Cta {
    /// Adds a product that no other warp has issued yet; its factors may not be written from now on.
    pub(super) fn add_product(
        &mut self,
        group: usize,
        op: Wgmma,
        (pc, warp): (u32, usize),
        descriptors: [Option<u64>; 2],
        (adds, chain): (bool, usize),
    ) -> Result<(), FaultKind> {
        let mut product = InFlight {
            op,
            pc,
            descriptors,
            adds,
            chain,
            first_warp: warp,
            a: Vec::new(),
            chunks: Default::default(),
            issued: 0,
            waited: 0,
            is_formed: false,
        };
        for i in 0..2 {
            let Some(factor) = product.factor(i) else { continue };
            let chunks = self.known_chunks.of(factor).map_err(FaultKind::Misuse)?;
            let inside = RESERVED_SHARED..=self.shared_bytes.saturating_sub(CHUNK as u32);
            let Range { start: low, end } = chunks.range;
            let high = end - CHUNK as u32;
            if let Some(outside) = [low, high].into_iter().find(|chunk| !inside.contains(chunk)) {
                let name = if i == 0 { "A" } else { "B" };
                return Err(FaultKind::OutOfBounds {
                    access: format!("read of matrix {name}"),
                    address: outside.into(),
                    bytes: CHUNK as u64,
                    hint: format!(
                        ": shared memory is {RESERVED_SHARED:#x} to {:#x}",
                        self.shared_bytes
                    ),
                });
            }
            product.chunks[i] = Some(chunks);
        }
        if op.a_in_registers {
            product.a.resize(WARPS * ROWS * DEPTH, 0);
        }
        let warpgroup = &mut self.warpgroups[group];
        let number = warpgroup.first + warpgroup.queue.len() as u64;
        for chunks in product.chunks.iter().flatten() {
            self.pins.push(Pin { group, number, range: chunks.range.clone() });
        }
        warpgroup.queue.push_back(product);
        Ok(())
    }

    /// A warp has issued a product; `a` are its rows of A, if they come from registers.
    pub(super) fn issue_product(&mut self, group: usize, number: u64, warp: usize, a: &[u8]) {
        if let Some(product) = self.warpgroups[group].product(number) {
            product.issued |= 1 << warp;
            if product.op.a_in_registers {
                product.a[warp * ROWS * DEPTH..][..a.len()].copy_from_slice(a);
            }
        }
    }

    /// Forms a product that all warps have issued, after those before it.
    pub(super) fn form_product(&mut self, group: usize, number: u64, multiplier: &mut Multiplier) {
        while let Some(next) = self.warpgroups[group].ready()
            && next <= number
        {
            let base: *const u8 = self.shared.as_ptr().cast();
            let group = &mut self.warpgroups[group];
            let Some(product) = group.queue.get_mut((next - group.first) as usize) else { return };
            let mut bytes = multiplier.take_buffers();
            if product.op.a_in_registers {
                std::mem::swap(&mut bytes[0], &mut product.a);
            }
            for (i, bytes) in bytes.iter_mut().enumerate() {
                let Some(factor) = product.factor(i) else { continue };
                let offsets = product.offsets(i);
                bytes.resize(offsets.len() * CHUNK, 0);
                for (to, chunk) in bytes.as_chunks_mut().0.iter_mut().zip(offsets) {
                    // SAFETY: `add_product` checked that the chunk lies in shared memory, and only this
                    // host thread runs the cluster.
                    *to = unsafe { *base.add(*chunk as usize).cast::<[u8; CHUNK]>() };
                }
                factor.arrange(bytes);
            }
            let [a, b] = &bytes;
            let Wgmma { product: types, negate, .. } = product.op;
            let task = Task { product: types, a, b, negate, adds: product.adds };
            multiplier.multiply(&task, &mut group.chains[product.chain].registers);
            multiplier.put_buffers(bytes);
            product.is_formed = true;
        }
    }

    /// Some warp has waited for a product, so its factors may be written.
    pub(super) fn unpin_product(&mut self, group: usize, number: u64) {
        self.pins.retain(|pin| (pin.group, pin.number) != (group, number));
    }

    /// The oldest product that still reads some bytes, and the first of those.
    fn reader(&self, bytes: Range<u32>) -> Option<(u32, Site)> {
        for pin in &self.pins {
            let group = &self.warpgroups[pin.group];
            let Some(product) = group.queue.get((pin.number - group.first) as usize) else {
                continue;
            };
            let meets = |chunk: &&u32| **chunk < bytes.end && bytes.start < **chunk + CHUNK as u32;
            let mut chunks = [0, 1].into_iter().flat_map(|i| product.offsets(i));
            if let Some(chunk) = chunks.find(meets) {
                let warp = (pin.group * WARPS + product.first_warp) as u32;
                let site = Site { pc: product.pc, cta: self.rank as usize, warp, lane: 0 };
                return Some(((*chunk).max(bytes.start), site));
            }
        }
        None
    }
}

impl ClusterState {
    /// Refuses to write bytes of shared memory that a product in flight reads.
    #[inline]
    pub(super) fn check_write(&mut self, address: u32, bytes: u64) -> Result<(), FaultKind> {
        let (rank, offset) = ((address >> 24) as usize, address & 0x00ff_ffff);
        let Some(cta) = self.ctas.get(rank) else { return Ok(()) };
        let bytes = offset..offset.saturating_add(bytes.min(1 << 24) as u32);
        let meets = |pin: &Pin| pin.range.start < bytes.end && bytes.start < pin.range.end;
        if !cta.pins.iter().any(meets) {
            return Ok(());
        }
        let Some((first, site)) = cta.reader(bytes) else { return Ok(()) };
        self.other = Some(site);
        Err(FaultKind::Misuse(format!(
            "shared memory at {first:#x} is overwritten before the wait for a product that reads it"
        )))
    }
}
