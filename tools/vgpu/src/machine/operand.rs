//! Factors of `wgmma` in shared memory: where their bytes lie.

use std::ops::Range;
use std::sync::Arc;

use super::multiply::Chunks;
use crate::tensor_map::Swizzle;

/// Bytes of K of one `wgmma`.
pub(super) const DEPTH: usize = 32;

/// Rows of a factor, as its descriptor says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Factor {
    pub descriptor: u64,
    /// A multiple of eight.
    pub rows: usize,
    /// K is the slower dimension; elements of 16 bits only.
    pub transposed: bool,
}

impl Factor {
    /// Offsets of its chunks in the CTA's shared memory: for each row and half of K, or, if
    /// transposed, for each eight rows and step of K. PTX ISA, "Strides", "Matrix descriptor" and
    /// "Canonical layouts"; the swizzle acts on the address itself.
    fn chunks(&self) -> Result<Vec<u32>, String> {
        let field = |low: u32| ((self.descriptor >> low & 0x3fff) << 4) as u32;
        let (start, leading, stride) = (field(0), field(16), field(32));
        if self.descriptor >> 49 & 7 != 0 {
            return Err("a matrix descriptor with a base offset".into());
        }
        let swizzle = match self.descriptor >> 62 {
            0 => Swizzle::None,
            1 => Swizzle::Bytes128,
            2 => Swizzle::Bytes64,
            _ => Swizzle::Bytes32,
        };
        let rows = self.rows as u32;
        let place = |offset: u32| swizzle.apply(start + offset);
        let row = |i: u32, span: u32| i % 8 * span + i / 8 * stride;
        let two = |offset: u32, step: u32| [place(offset), place(offset + step)];
        Ok(match (self.transposed, swizzle.span()) {
            (false, None) => (0..rows).flat_map(|i| two(row(i, 16), leading)).collect(),
            (false, Some(span)) => (0..rows).flat_map(|i| two(row(i, span), 16)).collect(),
            (true, None) => {
                let step = |j: u32| j % 8 * 16 + j / 8 * leading;
                let eight = |i: u32| (0..16).map(move |j| place(i * stride + step(j)));
                (0..rows / 8).flat_map(eight).collect()
            }
            (true, Some(span)) => {
                let wide = span / 16;
                let step = |j: u32| j % 8 * span + j / 8 * stride;
                let first = |i: u32| i % wide * 16 + i / wide * leading;
                let eight = |i: u32| (0..16).map(move |j| place(first(i) + step(j)));
                (0..rows / 8).flat_map(eight).collect()
            }
        })
    }

    /// Rows of [`DEPTH`] bytes of the bytes of the chunks, if it is transposed.
    pub(super) fn arrange(&self, bytes: &[u8]) -> Vec<u8> {
        let mut out = vec![0; self.rows * DEPTH];
        for (i, pair) in bytes.chunks_exact(2).enumerate() {
            // Chunk `i / 8` holds eight rows of one step of K.
            let (chunk, within) = (i / 8, i % 8);
            let (row, k) = (chunk / 16 * 8 + within, chunk % 16);
            out[row * DEPTH + 2 * k..][..2].copy_from_slice(pair);
        }
        out
    }
}

/// Places of factors that a CTA has met: its loops come back to them.
#[derive(Default)]
pub(crate) struct KnownChunks(Vec<(Factor, Arc<Chunks>)>);

impl KnownChunks {
    /// More than the stages of a ring have.
    const MAX_LEN: usize = 256;

    pub(super) fn of(&mut self, factor: Factor) -> Result<Arc<Chunks>, String> {
        if let Some((_, chunks)) = self.0.iter().find(|(known, _)| *known == factor) {
            return Ok(Arc::clone(chunks));
        }
        let chunks = Arc::new(Chunks::new(factor.chunks()?));
        if self.0.len() == Self::MAX_LEN {
            self.0.clear();
        }
        self.0.push((factor, Arc::clone(&chunks)));
        Ok(chunks)
    }
}

/// Shared memory that a product in flight reads.
pub(crate) struct Pin {
    /// Its warpgroup, and its number there.
    pub group: usize,
    pub number: u64,
    /// Offsets that its chunks lie between.
    pub range: Range<u32>,
}
