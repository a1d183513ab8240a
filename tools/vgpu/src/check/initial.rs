//! Which bytes of a memory have been written, a bit for each.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Bytes that were written.
pub(crate) struct Initial {
    /// All of them.
    whole: AtomicBool,
    bits: Box<[AtomicU64]>,
}

/// Words of 64 bytes that a range touches: number, and which of its bytes.
fn words(from: u64, bytes: u64) -> impl Iterator<Item = (usize, u64)> {
    let end = from + bytes;
    let mut at = from;
    std::iter::from_fn(move || {
        if at >= end {
            return None;
        }
        let (word, low) = (at / 64, at % 64);
        let count = (64 - low).min(end - at);
        at += count;
        Some((word as usize, (u64::MAX >> (64 - count)) << low))
    })
}

impl Initial {
    /// None of `bytes` bytes.
    pub(crate) fn new(bytes: u64) -> Self {
        let bits = (0..bytes.div_ceil(64)).map(|_| AtomicU64::new(0)).collect();
        Initial { whole: AtomicBool::new(false), bits }
    }

    pub(crate) fn set_whole(&self) {
        self.whole.store(true, Ordering::Relaxed);
    }

    /// A range was written; what lies behind the end does not matter.
    #[inline(always)]
    pub(crate) fn set(&self, from: u64, bytes: u64) {
        for (word, mask) in words(from, bytes) {
            if let Some(bits) = self.bits.get(word)
                && bits.load(Ordering::Relaxed) & mask != mask
            {
                bits.fetch_or(mask, Ordering::Relaxed);
            }
        }
    }

    /// A byte's value is that of a byte that nobody has written.
    pub(crate) fn unset(&self, at: u64) {
        if let Some(bits) = self.bits.get((at / 64) as usize) {
            bits.fetch_and(!(1 << (at % 64)), Ordering::Relaxed);
        }
    }

    /// The first byte of a range that nobody has written.
    #[inline(always)]
    pub(crate) fn missing(&self, from: u64, bytes: u64) -> Option<u64> {
        for (word, mask) in words(from, bytes) {
            let missing = mask & !self.bits.get(word)?.load(Ordering::Relaxed);
            if missing != 0 {
                let whole = self.whole.load(Ordering::Relaxed);
                return (!whole).then(|| word as u64 * 64 + u64::from(missing.trailing_zeros()));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_told_apart() {
        let initial = Initial::new(200);
        initial.set(60, 70);
        assert_eq!(initial.missing(60, 70), None);
        assert_eq!(initial.missing(59, 4), Some(59));
        assert_eq!(initial.missing(120, 16), Some(130));
        initial.unset(62);
        assert_eq!(initial.missing(60, 70), Some(62));
        initial.set_whole();
        assert_eq!(initial.missing(0, 200), None);
    }
}
