//! The page through which a rank shows its state: to its node directly, to other nodes by message.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

use bytemuck::{Pod, Zeroable};

/// Marks a rank index that names nobody.
pub(super) const NOBODY: u64 = u64::MAX;

/// How a rank stands, as far as it could say so itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum Status {
    Running = 0,
    /// Its thread unwound from a panic.
    Panicked = 1,
    /// Its world was dropped without `close`.
    Left = 2,
    /// Its world was closed, together with all others.
    Closed = 3,
    /// Not said by itself: the transport between nodes found that it has ended.
    Lost = 4,
}

impl Status {
    pub(super) fn from_u32(value: u32) -> Self {
        match value {
            1 => Self::Panicked,
            2 => Self::Left,
            3 => Self::Closed,
            4 => Self::Lost,
            _ => Self::Running,
        }
    }

    /// What to tell of a rank in this state that is still waited for; `None` while it runs.
    pub(super) fn cause_of_death(self) -> Option<&'static str> {
        match self {
            Self::Panicked => Some("its thread panicked"),
            Self::Left => Some("it left without closing its world"),
            Self::Lost => Some("MPI lost its process"),
            Self::Running | Self::Closed => None,
        }
    }
}

/// The name of an operation or step in a record.
pub(super) type Name = [u8; 48];
/// What is known of a rank's end, in a record.
pub(super) type Cause = [u8; 160];

/// Packs `text` zero-padded; what does not fit is cut at a character boundary.
pub(super) fn pack_text<const NUM_BYTES: usize>(text: &str) -> [u8; NUM_BYTES] {
    let mut bytes = [0; NUM_BYTES];
    let end = text.floor_char_boundary(NUM_BYTES);
    bytes[..end].copy_from_slice(&text.as_bytes()[..end]);
    bytes
}

pub(super) fn unpack_text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

/// What a rank waits for.
#[derive(Clone, Copy, PartialEq, Pod, Zeroable)]
#[repr(C)]
pub(super) struct WaitRecord {
    /// Rank waited for; [`NOBODY`] when the rank does not wait.
    pub peer: u64,
    pub expected: u64,
    pub got: u64,
    pub op: Name,
    pub step: Name,
}

impl WaitRecord {
    pub(super) const NONE: Self =
        Self { peer: NOBODY, expected: 0, got: 0, op: [0; 48], step: [0; 48] };
}

/// Why the world stopped: the rank to blame, and the step that it did not reach.
#[derive(Clone, Copy, PartialEq, Pod, Zeroable)]
#[repr(C)]
pub(super) struct AbortRecord {
    /// 1 if the culprit died, 0 if it did not come in time.
    pub died: u64,
    pub culprit: u64,
    /// Rank that found out.
    pub reporter: u64,
    pub expected: u64,
    pub got: u64,
    pub waited_us: u64,
    pub op: Name,
    pub step: Name,
    pub cause: Cause,
}

/// A record that one writer at a time replaces while any number of readers look (a seqlock).
#[repr(C)]
pub(super) struct Slot<const NUM_WORDS: usize> {
    /// Even: stable, the number of writes times two. Odd: being written.
    seq: AtomicU64,
    words: [AtomicU64; NUM_WORDS],
}

impl<const NUM_WORDS: usize> Slot<NUM_WORDS> {
    /// Returns how often the slot was written, times two (odd during a write).
    pub(super) fn seq(&self) -> u64 {
        self.seq.load(Ordering::Acquire)
    }

    /// Returns the record and its `seq`; `None` if nothing was written yet, or a write is under
    /// way.
    pub(super) fn read<T: Pod>(&self) -> Option<(u64, T)> {
        const { assert!(size_of::<T>() == NUM_WORDS * 8) };
        let seq = self.seq.load(Ordering::Acquire);
        if seq == 0 || seq % 2 == 1 {
            return None;
        }
        let words: [u64; NUM_WORDS] =
            std::array::from_fn(|word| self.words[word].load(Ordering::Relaxed));
        // Pairs with the release fence in `replace`: a word of a later write shows its seq too.
        fence(Ordering::Acquire);
        (self.seq.load(Ordering::Relaxed) == seq).then(|| (seq, bytemuck::cast_slice(&words)[0]))
    }

    /// Writes `record` if the slot still is at `seq` (even); returns whether it did.
    pub(super) fn replace<T: Pod>(&self, seq: u64, record: &T) -> bool {
        const { assert!(size_of::<T>() == NUM_WORDS * 8) };
        if seq % 2 == 1
            || self
                .seq
                .compare_exchange(seq, seq + 1, Ordering::Acquire, Ordering::Relaxed)
                .is_err()
        {
            return false;
        }
        fence(Ordering::Release);
        let words: &[u64] = bytemuck::cast_slice(std::slice::from_ref(record));
        for (slot, &word) in self.words.iter().zip(words) {
            slot.store(word, Ordering::Relaxed);
        }
        self.seq.store(seq + 2, Ordering::Release);
        true
    }
}

/// One rank's state, in memory that its whole node maps; zero bytes are its start.
///
/// For a rank of another node, each rank keeps a private mirror, filled from messages.
#[repr(C)]
pub(super) struct ControlPage {
    status: AtomicU32,
    /// Key of the last barrier that the rank entered.
    pub barrier_key: AtomicU64,
    pub wait: Slot<{ size_of::<WaitRecord>() / 8 }>,
    /// Used on the page of the node's first rank: one record for the node, so that all agree.
    pub abort: Slot<{ size_of::<AbortRecord>() / 8 }>,
}

/// Bytes of the segment that holds a control page.
pub(super) const CONTROL_BYTES: usize = 4096;
const _: () = assert!(size_of::<ControlPage>() <= CONTROL_BYTES);

impl ControlPage {
    pub(super) fn status(&self) -> Status {
        Status::from_u32(self.status.load(Ordering::Acquire))
    }

    pub(super) fn set_status(&self, status: Status) {
        self.status.store(status as u32, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use super::*;

    fn slot<const NUM_WORDS: usize>() -> Slot<NUM_WORDS> {
        let words = std::array::from_fn(|_| AtomicU64::new(0));
        Slot { seq: AtomicU64::new(0), words }
    }

    #[test]
    fn a_text_that_does_not_fit_is_cut_between_characters() {
        assert_eq!(unpack_text(&pack_text::<8>("dispatch")), "dispatch");
        assert_eq!(unpack_text(&pack_text::<8>("dispatched")), "dispatch");
        assert_eq!(unpack_text(&pack_text::<8>("1234567é")), "1234567");
        assert_eq!(unpack_text(&pack_text::<8>("")), "");
    }

    #[test]
    fn a_slot_takes_a_write_only_at_the_seq_that_the_writer_saw() {
        let slot = slot::<2>();
        assert!(slot.read::<[u64; 2]>().is_none(), "nothing was written yet");
        assert!(slot.replace(0, &[1u64, 2]));
        assert_eq!(slot.read(), Some((2, [1u64, 2])));
        assert!(!slot.replace(0, &[3u64, 4]), "another write came first");
        assert!(!slot.replace(3, &[3u64, 4]), "a write is never under way for its own writer");
        assert!(slot.replace(2, &[3u64, 4]));
        assert_eq!(slot.read(), Some((4, [3u64, 4])));
    }

    #[test]
    fn a_reader_never_sees_parts_of_two_records() {
        let slot = slot::<16>();
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    let mut num_seen = 0;
                    while !is_over.load(Ordering::Relaxed) || num_seen == 0 {
                        if let Some((_, record)) = slot.read::<[u64; 16]>() {
                            num_seen += 1;
                            assert_eq!(record, [record[0]; 16]);
                        }
                    }
                });
            }
            for value in 0..200_000u64 {
                assert!(slot.replace(slot.seq(), &[value; 16]));
            }
            is_over.store(true, Ordering::Relaxed);
        });
    }
}
