//! Products in flight. The four warps of a warpgroup issue a `wgmma` each for itself; it is formed
//! once, when all have, from bytes of shared memory at that moment: at once, at the first wait for
//! it or in between, as the launch's mode says. It is formed in the warps' registers: until each
//! warp's own wait nobody may look at those, so nobody can tell.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use super::cluster::{ClusterState, Cta, Site};
use super::flight::product_registers;
use super::grid::{Cluster, Grid};
use super::multiply::{CHUNK, Chunks, Multiplier, ROWS, Rows, Source, Task};
use super::operand::{DEPTH, Factor, Pin};
use super::registers::Registers;
use super::warp::Warp;
use crate::fault::FaultKind;
use crate::program::matrix::Wgmma;
use crate::program::{Kernel, RESERVED_SHARED};

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
    /// Its sum: a number of [`Warpgroup::chains`].
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
        self.chunks[i].as_ref().map_or(&[], |chunks| chunks.offsets())
    }

    /// The bytes of a factor, chunk by chunk.
    fn source<'a>(&'a self, i: usize, shared: &'a [u8]) -> Source<'a> {
        match &self.chunks[i] {
            Some(chunks) => Source::scattered(shared, chunks),
            None => Source::Whole(&self.a),
        }
    }

    fn factor(&self, i: usize) -> Option<Factor> {
        let rows = if i == 0 { WARPS * ROWS } else { usize::from(self.op.product.n) };
        let descriptor = self.descriptors[i]?;
        Some(Factor { descriptor, rows, transposed: self.op.transposed[i] })
    }
}

/// What the warps of a warpgroup share.
#[derive(Default)]
pub(crate) struct Warpgroup {
    /// The oldest comes first.
    queue: VecDeque<InFlight>,
    /// Number of the oldest.
    first: u64,
    /// Sums that products in flight add to: for each the warps that have not got it back.
    chains: Vec<u8>,
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

    /// A free number for a sum.
    pub(super) fn open_chain(&mut self) -> usize {
        let at = self.chains.iter().position(|owners| *owners == 0).unwrap_or_else(|| {
            self.chains.push(0);
            self.chains.len() - 1
        });
        self.chains[at] = ALL;
        at
    }

    /// A warp has its part of a sum back.
    pub(super) fn leave_chain(&mut self, chain: usize, warp: usize) {
        self.chains[chain] &= !(1 << warp);
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

/// Register files of a warpgroup: of a warp and of its neighbours in the cluster.
pub(super) fn files<'a>(
    warp: &'a mut Warp,
    [before, after]: &'a mut [&mut [Warp]; 2],
) -> [&'a mut Registers; WARPS] {
    let part = warp.index as usize % WARPS;
    let first = before.len() - part;
    let before = before[first..].iter_mut();
    let mut warps = before.chain(std::iter::once(warp)).chain(after.iter_mut());
    std::array::from_fn(|_| &mut warps.next().expect("a warpgroup has four warps").registers)
}

fn bytes_of(units: &[u128]) -> &[u8] {
    // SAFETY: bytes have no alignment, and every pattern of bits is some.
    unsafe { std::slice::from_raw_parts(units.as_ptr().cast(), size_of_val(units)) }
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
            let Range { start: low, end } = chunks.range();
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
            self.pins.push(Pin { group, number, range: chunks.range() });
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
    pub(super) fn form_product(
        &mut self,
        group: usize,
        number: u64,
        kernel: &Kernel,
        multiplier: &mut Multiplier,
        files: &mut [&mut Registers; WARPS],
    ) {
        let shared = bytes_of(&self.shared);
        let group = &mut self.warpgroups[group];
        while let Some(next) = group.ready()
            && next <= number
        {
            let Some(product) = group.queue.get_mut((next - group.first) as usize) else { return };
            let arranged: [Option<Vec<u8>>; 2] = [0, 1].map(|i| {
                let factor = product.factor(i).filter(|it| it.transposed)?;
                Some(factor.arrange(product.source(i, shared).gather(&mut Vec::new())))
            });
            let [a, b] = [0, 1].map(|i| match &arranged[i] {
                Some(rows) => Source::Whole(rows),
                None => product.source(i, shared),
            });
            let Wgmma { product: types, negate, .. } = product.op;
            let task = Task { product: types, a, b, negate, adds: product.adds };
            let (sum, _) = product_registers(kernel, product.pc);
            let mut sums = files.each_mut().map(|file| Rows::of(file, sum));
            multiplier.multiply(&task, &mut sums);
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

impl Grid<'_> {
    /// Forms the next product of some warpgroups.
    pub(super) fn form_some_products(&mut self, cluster: &mut Cluster) {
        let per_cta = cluster.warps.len() / cluster.state.ctas.len();
        for (cta, warps) in cluster.state.ctas.iter_mut().zip(cluster.warps.chunks_mut(per_cta)) {
            for (group, warps) in warps.chunks_mut(WARPS).enumerate() {
                if let Some(number) = cta.warpgroups[group].ready()
                    && self.dice.roll(2) == 0
                    && let [a, b, c, d] = warps
                {
                    let mut files = [a, b, c, d].map(|warp| &mut warp.registers);
                    let multiplier = &mut self.multiplier;
                    cta.form_product(group, number, self.kernel, multiplier, &mut files);
                }
            }
        }
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
