//! Where the bytes of a factor lie.

use std::ops::Range;

/// Bytes that lie together in every layout of shared memory.
pub(crate) const CHUNK: usize = 16;

/// Where the chunks of a factor lie.
#[derive(Debug)]
pub(crate) struct Chunks {
    offsets: Vec<u32>,
    /// From the lowest of them to the end of the highest.
    range: Range<u32>,
}

impl Chunks {
    pub(crate) fn new(offsets: Vec<u32>) -> Self {
        let (low, high) = offsets.iter().fold((u32::MAX, 0), |(low, high), &chunk| {
            (low.min(chunk), high.max(chunk.saturating_add(CHUNK as u32)))
        });
        Chunks { offsets, range: low..high }
    }

    pub(crate) fn offsets(&self) -> &[u32] {
        &self.offsets
    }

    pub(crate) fn range(&self) -> Range<u32> {
        self.range.clone()
    }
}

/// The bytes of a factor, row by row.
#[derive(Clone, Copy)]
pub(crate) enum Source<'a> {
    /// One behind the other.
    Whole(&'a [u8]),
    /// Some chunks of memory.
    Scattered(Scattered<'a>),
}

/// Chunks at some offsets, all of which lie in the memory.
#[derive(Clone, Copy)]
pub(crate) struct Scattered<'a> {
    memory: &'a [u8],
    offsets: &'a [u32],
}

impl<'a> Scattered<'a> {
    fn chunk(self, i: usize) -> &'a [u8; CHUNK] {
        // SAFETY: `Source::scattered` has seen that the chunk lies in the memory.
        unsafe { &*self.memory.as_ptr().add(self.offsets[i] as usize).cast() }
    }
}

impl<'a> Source<'a> {
    /// Chunks of memory that has them all.
    pub(crate) fn scattered(memory: &'a [u8], chunks: &'a Chunks) -> Self {
        assert!(chunks.range.end as usize <= memory.len(), "a factor lies in its memory");
        Source::Scattered(Scattered { memory, offsets: &chunks.offsets })
    }

    /// Bytes.
    pub(super) fn len(self) -> usize {
        match self {
            Source::Whole(bytes) => bytes.len(),
            Source::Scattered(chunks) => chunks.offsets.len() * CHUNK,
        }
    }

    /// Part `i` of parts of so many bytes, which are whole chunks.
    pub(super) fn part(self, i: usize, bytes: usize) -> Self {
        match self {
            Source::Whole(all) => Source::Whole(&all[i * bytes..][..bytes]),
            Source::Scattered(Scattered { memory, offsets }) => {
                let count = bytes / CHUNK;
                let offsets = &offsets[i * count..][..count];
                Source::Scattered(Scattered { memory, offsets })
            }
        }
    }

    /// Block `i` of blocks of so many rows, of two chunks each.
    #[inline(always)]
    pub(super) fn rows<const N: usize>(self, i: usize) -> [[&'a [u8; CHUNK]; 2]; N] {
        let mut rows = [[&[0; CHUNK]; 2]; N];
        match self.part(i, N * 2 * CHUNK) {
            Source::Whole(bytes) => {
                let chunks = rows.as_flattened_mut().iter_mut();
                chunks.zip(bytes.as_chunks().0).for_each(|(to, from)| *to = from);
            }
            Source::Scattered(chunks) => {
                for (i, chunk) in rows.as_flattened_mut().iter_mut().enumerate() {
                    *chunk = chunks.chunk(i);
                }
            }
        }
        rows
    }

    /// All of them together, in `buffer` if need be.
    pub(crate) fn gather(self, buffer: &'a mut Vec<u8>) -> &'a [u8] {
        match self {
            Source::Whole(bytes) => bytes,
            Source::Scattered(chunks) => {
                buffer.resize(self.len(), 0);
                for (i, to) in buffer.as_chunks_mut().0.iter_mut().enumerate() {
                    *to = *chunks.chunk(i);
                }
                buffer
            }
        }
    }
}
