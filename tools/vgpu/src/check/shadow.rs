//! Who last wrote and read each byte: cells of 16 bytes, split into words and bytes where accesses
//! are smaller.

use std::collections::HashMap;

/// Bytes of a page, and of a cell that is not split.
const PAGE_BYTES: u64 = 4096;
const CELL_BYTES: u64 = 16;
const CELLS: usize = (PAGE_BYTES / CELL_BYTES) as usize;
/// Readers beside the last one that a cell remembers.
const READERS: usize = 4;
/// Pages that are found without a look at the table.
const CACHE: usize = 64;

/// Which proxy an access went through, and whether it was one that may meet others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Nature {
    /// An ordinary access.
    #[default]
    Weak,
    /// A relaxed, volatile or atomic one, for threads of the same block, cluster, or grid.
    Cta,
    Cluster,
    Gpu,
    /// By the async proxy.
    Async,
    /// A reduction by the async proxy, which may meet atomics.
    Reduction,
    /// By `cp.async`.
    Copy,
    /// By `st.async` or `red.async`.
    Store,
    /// `mbarrier.init`.
    Mbarrier,
}

impl Nature {
    pub(crate) fn is_async_proxy(self) -> bool {
        matches!(self, Nature::Async | Nature::Reduction)
    }

    /// How far a strong access is seen.
    pub(crate) fn reach(self) -> Option<Nature> {
        match self {
            Nature::Cta | Nature::Cluster | Nature::Gpu => Some(self),
            Nature::Reduction => Some(Nature::Gpu),
            Nature::Store => Some(Nature::Cluster),
            Nature::Weak | Nature::Async | Nature::Copy | Nature::Mbarrier => None,
        }
    }
}

/// An access: when, by whom, and where in the program.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Mark {
    /// Time of the agent; 0 in a cell means that there was no access.
    pub clock: u32,
    pub pc: u32,
    pub cluster: u32,
    /// The agent: a warp, or what completes an asynchronous operation.
    pub slot: u16,
    /// The warp and lane that executed the instruction.
    pub warp: u16,
    /// [`EVERY_LANE`] if threads of the warp wrote the same together.
    pub lane: u8,
    /// If not 0, `lane` has the cell's first bytes and each lane after it the next `2^(stripe - 1)`.
    pub stripe: u8,
    pub nature: Nature,
}

/// In place of one lane.
pub(crate) const EVERY_LANE: u8 = 32;

impl Mark {
    /// Threads whose access to a cell it is.
    #[inline(always)]
    pub(crate) fn lanes(&self, bytes: u64) -> u32 {
        match (self.lane, self.stripe) {
            (EVERY_LANE, _) => u32::MAX,
            (lane, 0) => 1 << lane,
            (lane, stripe) => ((1 << (bytes >> (stripe - 1))) - 1) << lane,
        }
    }

    /// The same for a part of the cell.
    fn part(mut self, offset: u64, bytes: u64) -> Self {
        if self.stripe != 0 {
            let width = self.stripe - 1;
            self.lane += (offset >> width) as u8;
            self.stripe = if bytes > 1 << width { self.stripe } else { 0 };
        }
        self
    }
}

/// Reads by threads of one agent.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Read {
    pub mark: Mark,
    pub lanes: u32,
}

impl Read {
    fn part(self, offset: u64, bytes: u64) -> Self {
        let mark = self.mark.part(offset, bytes);
        let lanes = if self.mark.stripe == 0 { self.lanes } else { mark.lanes(bytes) };
        Read { mark, lanes }
    }
}

/// The accesses to bytes that were always accessed together.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cell {
    pub write: Mark,
    pub read: Read,
    /// More readers, or the four parts.
    more: u32,
    is_split: bool,
}

/// Readers beyond a cell's first, the oldest of which makes room.
#[derive(Clone, Copy, Debug, Default)]
struct Readers {
    all: [Read; READERS],
    next: u8,
}

/// Sets of readers.
#[derive(Default)]
pub(crate) struct Sets {
    all: Vec<Readers>,
    free: Vec<u32>,
}

impl Cell {
    /// All reads since the last write.
    #[inline(always)]
    pub(crate) fn reads<'s>(&'s self, sets: &'s Sets) -> impl Iterator<Item = &'s Read> {
        let more: &[Read] = match self.more {
            0 => &[],
            at => &sets.all[at as usize - 1].all,
        };
        std::iter::once(&self.read).chain(more).filter(|read| read.mark.clock != 0)
    }

    /// Replaces the accesses by one write.
    #[inline(always)]
    pub(crate) fn set_write(&mut self, mark: Mark, sets: &mut Sets) {
        self.write = mark;
        self.set_read(Read::default(), sets);
    }

    /// Replaces the reads by one.
    #[inline(always)]
    pub(crate) fn set_read(&mut self, read: Read, sets: &mut Sets) {
        self.read = read;
        if self.more != 0 {
            sets.free.push(self.more);
            self.more = 0;
        }
    }

    /// Remembers one more read.
    pub(crate) fn add_read(&mut self, read: Read, sets: &mut Sets) {
        if self.more == 0 {
            self.more = sets.place(Readers::default());
        }
        let set = &mut sets.all[self.more as usize - 1];
        set.all[usize::from(set.next)] = self.read;
        set.next = (set.next + 1) % READERS as u8;
        self.read = read;
    }
}

impl Sets {
    /// Number of a new set, from 1.
    fn place(&mut self, readers: Readers) -> u32 {
        if let Some(at) = self.free.pop() {
            self.all[at as usize - 1] = readers;
            return at;
        }
        self.all.push(readers);
        self.all.len() as u32
    }
}

/// The cells of a memory, made where it is accessed.
pub(crate) struct Shadow {
    index: HashMap<u64, usize>,
    pages: Vec<Box<[Cell; CELLS]>>,
    parts: Parts,
    cache: [(u64, usize); CACHE],
}

/// What cells are split into.
#[derive(Default)]
struct Parts {
    fours: Vec<[Cell; 4]>,
    free: Vec<u32>,
    sets: Sets,
}

impl Default for Shadow {
    fn default() -> Self {
        Shadow {
            index: HashMap::new(),
            pages: Vec::new(),
            parts: Parts::default(),
            cache: [(u64::MAX, 0); CACHE],
        }
    }
}

/// A part of memory whose accesses are looked at: first byte and length.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Part {
    pub at: u64,
    pub bytes: u64,
}

impl Shadow {
    /// Calls `f` on the cells of a range, which are split where the range's ends need it. If it `writes`,
    /// parts that are written together become one.
    #[inline(always)]
    pub(crate) fn visit<E>(
        &mut self,
        address: u64,
        bytes: u64,
        writes: bool,
        mut f: impl FnMut(&mut Cell, &mut Sets, Part) -> Result<(), E>,
    ) -> Result<(), E> {
        let (mut at, end) = (address, address + bytes);
        while at < end {
            let page = self.page(at / PAGE_BYTES);
            let cell = &mut self.pages[page][(at % PAGE_BYTES / CELL_BYTES) as usize];
            let stop = ((at / CELL_BYTES + 1) * CELL_BYTES).min(end);
            let part = Part { at, bytes: stop - at };
            if part.bytes == CELL_BYTES && !cell.is_split {
                f(cell, &mut self.parts.sets, part)?;
            } else {
                self.parts.visit(cell, CELL_BYTES, part, writes, &mut f)?;
            }
            at = stop;
        }
        Ok(())
    }

    #[inline(always)]
    fn page(&mut self, number: u64) -> usize {
        let (known, at) = self.cache[number as usize % CACHE];
        if known == number { at } else { self.find_page(number) }
    }

    #[cold]
    fn find_page(&mut self, number: u64) -> usize {
        let at = *self.index.entry(number).or_insert_with(|| {
            self.pages.push(Box::new([Cell::default(); CELLS]));
            self.pages.len() - 1
        });
        self.cache[number as usize % CACHE] = (number, at);
        at
    }
}

impl Parts {
    /// Place of a cell's four parts.
    fn split(&mut self, cell: &mut Cell, bytes: u64) -> u32 {
        if cell.is_split {
            return cell.more;
        }
        let size = bytes / 4;
        let mut four = [Cell::default(); 4];
        for (i, part) in (0..).zip(&mut four) {
            part.write = cell.write.part(i * size, size);
            part.read = cell.read.part(i * size, size);
            if cell.more != 0 {
                let mut readers = self.sets.all[cell.more as usize - 1];
                readers.all.iter_mut().for_each(|read| *read = read.part(i * size, size));
                part.more = self.sets.place(readers);
            }
        }
        if cell.more != 0 {
            self.sets.free.push(cell.more);
        }
        cell.more = match self.free.pop() {
            Some(at) => {
                self.fours[at as usize] = four;
                at
            }
            None => {
                self.fours.push(four);
                self.fours.len() as u32 - 1
            }
        };
        cell.is_split = true;
        cell.more
    }

    /// A part of a cell of `size` bytes.
    fn visit<E>(
        &mut self,
        cell: &mut Cell,
        size: u64,
        part: Part,
        writes: bool,
        f: &mut impl FnMut(&mut Cell, &mut Sets, Part) -> Result<(), E>,
    ) -> Result<(), E> {
        if part.bytes == size && !cell.is_split {
            return f(cell, &mut self.sets, part);
        }
        let four = self.split(cell, size);
        let quarter = size / 4;
        let (mut at, end) = (part.at, part.at + part.bytes);
        while at < end {
            let stop = ((at / quarter + 1) * quarter).min(end);
            let inner = Part { at, bytes: stop - at };
            let i = (at % size / quarter) as usize;
            let child = &mut self.fours[four as usize][i];
            if inner.bytes == quarter && !child.is_split {
                f(child, &mut self.sets, inner)?;
            } else {
                let mut child = *child;
                self.visit(&mut child, quarter, inner, writes, f)?;
                self.fours[four as usize][i] = child;
            }
            at = stop;
        }
        if writes && part.bytes == size {
            // The parts have no more to tell than that this write came after all else.
            self.free.push(four);
            *cell = Cell::default();
            f(cell, &mut self.sets, part)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clocks(shadow: &mut Shadow, address: u64, bytes: u64) -> Vec<u32> {
        let mut out = Vec::new();
        let done: Result<(), ()> = shadow.visit(address, bytes, false, |cell, _, _| {
            out.push(cell.write.clock);
            Ok(())
        });
        assert_eq!(done, Ok(()));
        out
    }

    fn write(shadow: &mut Shadow, address: u64, bytes: u64, clock: u32) {
        let done: Result<(), ()> = shadow.visit(address, bytes, true, |cell, sets, _| {
            cell.set_write(Mark { clock, ..Mark::default() }, sets);
            Ok(())
        });
        assert_eq!(done, Ok(()));
    }

    #[test]
    fn cells_are_split_where_accesses_are_small_and_joined_by_large_writes() {
        let mut shadow = Shadow::default();
        write(&mut shadow, 0x1000, 32, 1);
        assert_eq!(clocks(&mut shadow, 0x1000, 32), [1, 1]);
        write(&mut shadow, 0x1004, 4, 2);
        write(&mut shadow, 0x1009, 2, 3);
        assert_eq!(clocks(&mut shadow, 0x1000, 16), [1, 2, 1, 3, 3, 1, 1]);
        assert_eq!(clocks(&mut shadow, 0x1ffe, 4), [0, 0, 0, 0]);
        write(&mut shadow, 0x1000, 16, 4);
        assert_eq!(clocks(&mut shadow, 0x1000, 32), [4, 1]);
    }

    #[test]
    fn a_cell_remembers_several_readers() {
        let (mut cell, mut sets) = (Cell::default(), Sets::default());
        for clock in 1..=7 {
            let mark = Mark { clock, ..Mark::default() };
            cell.add_read(Read { mark, lanes: 1 }, &mut sets);
        }
        let mut all: Vec<u32> = cell.reads(&sets).map(|read| read.mark.clock).collect();
        all.sort_unstable();
        assert_eq!(all, [3, 4, 5, 6, 7]);
        cell.set_write(Mark::default(), &mut sets);
        assert_eq!(cell.reads(&sets).count(), 0);
    }
}
