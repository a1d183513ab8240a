//! Functions that NVIDIA's driver does not have: counts of the program's own launches.

use std::ffi::{c_char, c_int};

use crate::counts;
use crate::entry::{api, put};

api! {
    /// Counts launches from now on, or no longer; what was kept is dropped. Launches that have been
    /// enqueued already are counted too if they begin later.
    fn vgpuCountLaunches(on: c_int) {
        counts::keep(on != 0);
    }

    /// The counts of the launches that have ended, as a JSON array of the objects that `VGPU_COUNTS`
    /// gets: at most `length` bytes with a zero at their end. `needed` is how many bytes that takes;
    /// unless there is room for all, nothing is written and the counts are kept.
    fn vgpuTakeCounts(buffer: *mut c_char, length: usize, needed: *mut usize) {
        counts::with_kept(|text| {
            let bytes = text.len() + 1;
            // SAFETY: the caller's pointer.
            let told = unsafe { put(needed, "needed", bytes) };
            if told.is_err() || buffer.is_null() || length < bytes {
                return (told, false);
            }
            // SAFETY: the caller's buffer has room for `bytes`.
            unsafe {
                buffer.cast::<u8>().copy_from_nonoverlapping(text.as_ptr(), text.len());
                buffer.add(text.len()).write(0);
            }
            (told, true)
        })?;
    }
}
