//! Packing memory of each thread: grows to the largest use and is then reused.

use std::cell::RefCell;

use bytemuck::{Pod, Zeroable, cast_slice_mut};

/// A cache line, so that packed vectors never straddle two.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C, align(64))]
struct Line([u8; 64]);

/// Bytes aligned to 64.
#[derive(Default)]
pub(super) struct Buf(Vec<Line>);

impl Buf {
    /// Lends `len` elements of unspecified content, aligned to 64 bytes.
    pub(super) fn lend<T: Pod>(&mut self, len: usize) -> &mut [T] {
        let num_lines = (len * size_of::<T>()).div_ceil(size_of::<Line>());
        if self.0.len() < num_lines {
            self.0.resize(num_lines, Line::zeroed());
        }
        &mut cast_slice_mut(&mut self.0[..num_lines])[..len]
    }
}

/// What a task packs into.
#[derive(Default)]
pub(super) struct Scratch {
    pub(super) a: Buf,
    pub(super) a_factors: Buf,
    pub(super) b: Buf,
    pub(super) b_factors: Buf,
    pub(super) acc: Buf,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
    static TASK_OFFSETS: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) };
}

/// Lends this thread's packing memory; calls do not nest.
pub(super) fn with_scratch<R>(f: impl FnOnce(&mut Scratch) -> R) -> R {
    SCRATCH.with_borrow_mut(f)
}

/// Lends an empty list that keeps its capacity; calls may nest (a nested one starts anew).
pub(super) fn with_offsets<R>(f: impl FnOnce(&mut Vec<usize>) -> R) -> R {
    let mut offsets = TASK_OFFSETS.take();
    offsets.clear();
    let result = f(&mut offsets);
    TASK_OFFSETS.set(offsets);
    result
}
