//! What surrounds each exported function: results become codes, panics do not cross the border,
//! and a log says why a call was refused.

use std::collections::BTreeSet;
use std::ffi::{CStr, c_char};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, PoisonError};

use crate::failure::{Failure, Result};
use crate::settings::settings;
use crate::status::Status;

/// Defines exported functions. A body is a block of `Result<()>`; `Ok(())` is added at its end.
macro_rules! api {
    ($($(#[$attr:meta])* fn $name:ident($($arg:ident: $ty:ty),* $(,)?) $body:block)*) => {$(
        $(#[$attr])*
        ///
        /// # Safety
        ///
        /// Pointers are null or valid for what the driver API reads and writes through them.
        #[unsafe(no_mangle)]
        #[allow(non_snake_case)]
        pub unsafe extern "C" fn $name($($arg: $ty),*) -> $crate::status::Status {
            $crate::entry::enter(stringify!($name), || {
                $body
                #[allow(unreachable_code)]
                Ok(())
            })
        }
    )*};
}
pub(crate) use api;

/// Runs a call's body.
pub fn enter(name: &'static str, body: impl FnOnce() -> Result<()>) -> Status {
    // What a panic leaves behind is behind locks, which are taken over as they are.
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(())) => Status::SUCCESS,
        Ok(Err(failure)) => {
            if settings().log && failure.status != Status::NOT_READY {
                eprintln!("vgpu: {name}: {}: {}", failure.status.name(), failure.reason);
            }
            failure.status
        }
        Err(_) => {
            eprintln!("vgpu: {name}: CUDA_ERROR_UNKNOWN: the virtual GPU's own mistake, see above");
            Status::UNKNOWN
        }
    }
}

/// Names a function or option that is lacking, once, and fails.
pub fn lacking(what: &str) -> Failure {
    static NAMED: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    if NAMED.lock().unwrap_or_else(PoisonError::into_inner).insert(what.to_owned()) {
        eprintln!("vgpu: {what} is not supported");
    }
    Failure::new(Status::NOT_SUPPORTED, what)
}

/// Writes a result through a pointer of the caller.
///
/// # Safety
///
/// The pointer is null or valid for a `T`.
pub unsafe fn put<T>(pointer: *mut T, arg: &str, value: T) -> Result<()> {
    if pointer.is_null() {
        return Err(Failure::argument(arg, "an address", "null"));
    }
    // SAFETY: not null, hence valid.
    unsafe { pointer.write_unaligned(value) };
    Ok(())
}

/// Reads a value of the caller.
///
/// # Safety
///
/// The pointer is null or valid for a `T`, of which all bits are values.
pub unsafe fn get<T: Copy>(pointer: *const T, arg: &str) -> Result<T> {
    if pointer.is_null() {
        return Err(Failure::argument(arg, "an address", "null"));
    }
    // SAFETY: not null, hence valid.
    Ok(unsafe { pointer.read_unaligned() })
}

/// Reads a C string of the caller.
///
/// # Safety
///
/// The pointer is null or at a string that ends with a zero byte.
pub unsafe fn text<'a>(pointer: *const c_char, arg: &str) -> Result<&'a str> {
    if pointer.is_null() {
        return Err(Failure::argument(arg, "a string", "null"));
    }
    // SAFETY: not null, hence a string.
    let text = unsafe { CStr::from_ptr(pointer) };
    text.to_str().map_err(|_| Failure::argument(arg, "UTF-8", "other bytes"))
}

/// Writes a string and its zero byte into a buffer of the caller, cut to its length.
///
/// # Safety
///
/// The pointer is null or valid for `length` bytes.
pub unsafe fn put_text(pointer: *mut c_char, length: usize, text: &str, arg: &str) -> Result<()> {
    if pointer.is_null() || length == 0 {
        return Err(Failure::argument(arg, "a buffer", "none"));
    }
    let bytes = &text.as_bytes()[..text.len().min(length - 1)];
    // SAFETY: at most `length` bytes with the zero.
    unsafe {
        pointer.cast::<u8>().copy_from_nonoverlapping(bytes.as_ptr(), bytes.len());
        pointer.add(bytes.len()).write(0);
    }
    Ok(())
}
