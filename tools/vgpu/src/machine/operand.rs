//! Factors of `wgmma` in shared memory: where their bytes lie.

use crate::tensor_map::Swizzle;

/// Bytes of K of one `wgmma`.
pub(super) const DEPTH: usize = 32;
/// Bytes that lie together in every layout.
pub(super) const CHUNK: usize = 16;

/// Rows of a factor, as its descriptor says.
#[derive(Clone, Copy, Debug)]
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
    pub(super) fn chunks(&self) -> Result<Vec<u32>, String> {
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
        let mut out = Vec::with_capacity(2 * self.rows);
        let (outer, inner) = if self.transposed { (8, 16) } else { (1, 2) };
        for i in 0..self.rows as u32 / outer {
            for j in 0..inner {
                let offset = match (self.transposed, swizzle.span()) {
                    (false, None) => i % 8 * 16 + i / 8 * stride + j * leading,
                    (false, Some(span)) => i % 8 * span + i / 8 * stride + j * 16,
                    (true, None) => i * stride + j % 8 * 16 + j / 8 * leading,
                    (true, Some(span)) => {
                        let wide = span / 16;
                        i % wide * 16 + i / wide * leading + j % 8 * span + j / 8 * stride
                    }
                };
                out.push(swizzle.apply(start + offset));
            }
        }
        Ok(out)
    }

    /// Makes rows of [`DEPTH`] bytes of the bytes of the chunks.
    pub(super) fn arrange(&self, bytes: &mut Vec<u8>) {
        if !self.transposed {
            return;
        }
        let mut out = vec![0; self.rows * DEPTH];
        for (i, pair) in bytes.chunks_exact(2).enumerate() {
            // Chunk `i / 8` holds eight rows of one step of K.
            let (chunk, within) = (i / 8, i % 8);
            let (row, k) = (chunk / 16 * 8 + within, chunk % 16);
            out[row * DEPTH + 2 * k..][..2].copy_from_slice(pair);
        }
        *bytes = out;
    }
}

/// How many products in flight read each chunk of a CTA's shared memory.
#[derive(Default)]
pub(crate) struct Pins {
    counts: Vec<u8>,
    /// Products that pin anything.
    products: usize,
}

impl Pins {
    pub(super) fn pin(&mut self, chunks: &[u32], shared_bytes: u32) {
        self.counts.resize((shared_bytes as usize).div_ceil(CHUNK), 0);
        self.products += 1;
        for chunk in chunks {
            let count = &mut self.counts[*chunk as usize / CHUNK];
            *count = count.saturating_add(1);
        }
    }

    pub(super) fn release(&mut self, chunks: &[u32]) {
        self.products -= 1;
        for chunk in chunks {
            let count = &mut self.counts[*chunk as usize / CHUNK];
            *count = count.saturating_sub(1);
        }
    }

    /// The first pinned chunk among some bytes.
    #[inline]
    pub(super) fn find(&self, offset: u32, bytes: u64) -> Option<u32> {
        if self.products == 0 {
            return None;
        }
        let first = offset as usize / CHUNK;
        let end = (offset as usize + bytes as usize).div_ceil(CHUNK).min(self.counts.len());
        let at = self.counts.get(first..end)?.iter().position(|count| *count > 0)?;
        Some(((first + at) * CHUNK) as u32)
    }
}
