//! Copies of tokens' rows, past the caches where a stage writes more than they keep.

use super::simd::SimdLevel;

/// Bytes from which on a stage writes past the caches. Below, whoever reads the rows next finds them there;
/// above, it would not, and each line would be read from memory before it is overwritten. Measured with
/// dispatch and combine: rows of 7 MB a rank are quicker through the caches, rows of 29 MB past them.
const PAST_CACHE_BYTES: usize = 8 << 20;

/// How a stage copies its rows.
#[derive(Clone, Copy)]
pub(super) struct RowCopy {
    simd: SimdLevel,
    past_caches: bool,
}

impl RowCopy {
    /// For a stage that writes `num_bytes` in all.
    pub fn of(simd: SimdLevel, num_bytes: usize) -> Self {
        Self { simd, past_caches: num_bytes >= PAST_CACHE_BYTES }
    }

    /// Runs a task that copies rows with it; they are written before anything that this thread writes later.
    pub fn run<R>(self, task: impl FnOnce(Self) -> R) -> R {
        let result = task(self);
        if self.past_caches {
            // Stores past the caches are not in order with others.
            store_fence();
        }
        result
    }

    /// Copies a row, or a part of one, within [`RowCopy::run`].
    #[inline]
    pub fn copy(self, to: &mut [u8], from: &[u8]) {
        assert_eq!(to.len(), from.len(), "rows of one width");
        // SAFETY: both are slices of this length, and an exclusive one overlaps no other.
        unsafe { self.copy_to(to.as_mut_ptr(), from) };
    }

    /// Copies a row to memory that other ranks see, within [`RowCopy::run`].
    ///
    /// # Safety
    ///
    /// `to` points at `from.len()` bytes, apart from `from`, that nobody else accesses meanwhile.
    #[inline]
    pub unsafe fn copy_to(self, to: *mut u8, from: &[u8]) {
        #[cfg(target_arch = "x86_64")]
        if self.past_caches {
            // SAFETY: as the caller promised; the processor has what its level names.
            return unsafe { x86::stream(self.simd, to, from) };
        }
        // SAFETY: as the caller promised.
        unsafe { to.copy_from_nonoverlapping(from.as_ptr(), from.len()) };
    }
}

fn store_fence() {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: every x86-64 processor has SSE.
    unsafe {
        std::arch::x86_64::_mm_sfence();
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use crate::backend::SimdLevel;

    const LINE: usize = 64;
    /// Bytes ahead of which the source is fetched: the processor itself does not look beyond a page.
    const AHEAD: usize = 4096;

    /// Copies in order, past the caches where the address allows it.
    ///
    /// # Safety
    ///
    /// `to` points at `from.len()` bytes, apart from `from`, that nobody else accesses meanwhile; the
    /// processor has the level.
    #[inline]
    pub unsafe fn stream(simd: SimdLevel, to: *mut u8, from: &[u8]) {
        let (lines, rest) = from.as_chunks::<LINE>();
        // SAFETY: as the caller promised, and the addresses are aligned as the branches say; the rest
        // follows the lines.
        unsafe {
            if simd == SimdLevel::Avx512 && to.addr().is_multiple_of(LINE) {
                stream_lines_avx512(to, lines);
            } else if to.addr().is_multiple_of(16) {
                stream_lines(to, lines);
            } else {
                to.copy_from_nonoverlapping(lines.as_flattened().as_ptr(), LINE * lines.len());
            }
            let to = to.add(LINE * lines.len());
            to.copy_from_nonoverlapping(rest.as_ptr(), rest.len());
        }
    }

    /// One store a line, so that many lines are under way.
    ///
    /// # Safety
    ///
    /// As [`stream`]; `to` is a multiple of [`LINE`].
    #[target_feature(enable = "avx512f")]
    #[inline]
    unsafe fn stream_lines_avx512(to: *mut u8, lines: &[[u8; LINE]]) {
        for (idx, line) in lines.iter().enumerate() {
            prefetch(line);
            // SAFETY: a vector is a line, whose place is among those that the caller gave.
            unsafe {
                let vector = _mm512_loadu_si512(line.as_ptr().cast());
                _mm512_stream_si512(to.add(LINE * idx).cast(), vector);
            }
        }
    }

    /// # Safety
    ///
    /// As [`stream`]; `to` is a multiple of 16.
    unsafe fn stream_lines(to: *mut u8, lines: &[[u8; LINE]]) {
        for (idx, line) in lines.iter().enumerate() {
            prefetch(line);
            // SAFETY: four vectors are a line, whose place is among those that the caller gave.
            unsafe {
                let to: *mut __m128i = to.add(LINE * idx).cast();
                let [a, b, c, d] =
                    [0, 1, 2, 3].map(|part| _mm_loadu_si128(line.as_ptr().add(16 * part).cast()));
                _mm_stream_si128(to, a);
                _mm_stream_si128(to.add(1), b);
                _mm_stream_si128(to.add(2), c);
                _mm_stream_si128(to.add(3), d);
            }
        }
    }

    #[inline(always)]
    fn prefetch(line: &[u8; LINE]) {
        // SAFETY: every x86-64 processor has SSE, and a prefetch faults at no address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(line.as_ptr().wrapping_add(AHEAD).cast()) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_arrives_and_no_other_is_touched() {
        let from: Vec<u8> = (0..1000u32).map(|i| (i * 7 + i / 256) as u8).collect();
        let levels = [SimdLevel::Portable, SimdLevel::detect()];
        for (simd, past_caches) in levels.map(|simd| [(simd, false), (simd, true)]).concat() {
            for (start, len) in [(0, 0), (0, 16), (3, 64), (16, 64), (64, 80), (32, 777), (1, 960)]
            {
                let mut memory = vec![0xaa; 1200];
                let aligned = memory.as_ptr().align_offset(64);
                let to = &mut memory[aligned..][..1100];
                let copy = RowCopy { simd, past_caches };
                copy.run(|copy| copy.copy(&mut to[start..][..len], &from[..len]));
                assert_eq!(to[start..][..len], from[..len], "{len} bytes at {start}");
                let around = to[..start].iter().chain(&to[start + len..]);
                assert!(around.copied().all(|byte| byte == 0xaa), "{len} bytes at {start}");
            }
        }
    }
}
