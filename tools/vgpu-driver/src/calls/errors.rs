//! Names and texts of error codes.

use std::ffi::{CStr, c_char};
use std::ptr::null;

use crate::entry::{api, put};
use crate::failure::{Failure, Result};
use crate::status::Status;

api! {
    /// Name of a code.
    fn cuGetErrorName(error: Status, name: *mut *const c_char) {
        // SAFETY: the caller's pointer.
        unsafe { answer(name, error.describe().map(|(name, _)| name)) }?;
    }

    /// Meaning of a code.
    fn cuGetErrorString(error: Status, text: *mut *const c_char) {
        // SAFETY: the caller's pointer.
        unsafe { answer(text, error.describe().map(|(_, text)| text)) }?;
    }
}

/// # Safety
///
/// The pointer is null or valid.
unsafe fn answer(pointer: *mut *const c_char, text: Option<&'static CStr>) -> Result<()> {
    // SAFETY: the caller's.
    unsafe { put(pointer, "pStr", text.map_or(null(), CStr::as_ptr)) }?;
    text.map(drop).ok_or_else(|| Failure::argument("error", "a CUresult", "another number"))
}
