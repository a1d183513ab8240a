//! Functions by name.

use std::ffi::{CString, c_char, c_int, c_void};
use std::ptr::null_mut;

use crate::entry::{api, put, text};
use crate::failure::Failure;
use crate::status::Status;

/// Functions whose newest form is younger than others': name, suffix and the version it came with.
const YOUNG: [(&str, &str, c_int); 8] = [
    ("cuCtxCreate", "_v4", 12_050),
    ("cuCtxGetDevice", "_v2", 13_000),
    ("cuCtxSynchronize", "_v2", 13_000),
    ("cuDeviceGetUuid", "_v2", 11_040),
    ("cuEventElapsedTime", "_v2", 12_080),
    ("cuGetProcAddress", "_v2", 12_000),
    ("cuGraphExecUpdate", "_v2", 12_000),
    ("cuStreamGetCaptureInfo", "_v3", 12_030),
];

api! {
    /// The address of a function, by its name without the suffix of its version.
    fn cuGetProcAddress_v2(
        symbol: *const c_char,
        function: *mut *mut c_void,
        version: c_int,
        _flags: u64,
        status: *mut u32,
    ) {
        // SAFETY: the caller's string.
        let name = unsafe { text(symbol, "symbol") }?;
        let found = find(name, version);
        // SAFETY: the caller's pointer.
        unsafe { put(function, "pfn", found.unwrap_or(null_mut())) }?;
        if !status.is_null() {
            // CU_GET_PROC_ADDRESS_SUCCESS or CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND.
            // SAFETY: the caller's pointer.
            unsafe { put(status, "symbolStatus", u32::from(found.is_none())) }?;
        }
        if found.is_none() {
            return Err(Failure::new(Status::NOT_FOUND, format!("no function `{name}`")));
        }
    }

    /// As `cuGetProcAddress_v2`, without a status.
    fn cuGetProcAddress(
        symbol: *const c_char,
        function: *mut *mut c_void,
        version: c_int,
        _flags: u64,
    ) {
        // SAFETY: the caller's string.
        let name = unsafe { text(symbol, "symbol") }?;
        let none = || Failure::new(Status::NOT_FOUND, format!("no function `{name}`"));
        // SAFETY: the caller's pointer.
        unsafe { put(function, "pfn", find(name, version).ok_or_else(none)?) }?;
    }
}

/// The newest form of a function that a version of CUDA has.
fn find(name: &str, version: c_int) -> Option<*mut c_void> {
    let is_old = |suffix: &str| {
        YOUNG
            .iter()
            .any(|(young, newest, since)| *young == name && *newest == suffix && version < *since)
    };
    let suffixes = ["_v4", "_v3", "_v2", ""];
    suffixes.into_iter().filter(|suffix| !is_old(suffix)).find_map(|suffix| {
        let name = CString::new(format!("{name}{suffix}")).ok()?;
        own_symbol(&name)
    })
}

/// Looks a name up in this library.
fn own_symbol(name: &CString) -> Option<*mut c_void> {
    let here = own_symbol as *const c_void;
    // SAFETY: numbers and pointers, for which zero is a value.
    let mut info: libc::Dl_info = unsafe { std::mem::zeroed() };
    // SAFETY: an address in this library, and room for the answer.
    if unsafe { libc::dladdr(here, &mut info) } == 0 {
        return None;
    }
    // SAFETY: the path of a library that is loaded; its count of users goes up and down again.
    unsafe {
        let library = libc::dlopen(info.dli_fname, libc::RTLD_NOLOAD | libc::RTLD_NOW);
        if library.is_null() {
            return None;
        }
        let symbol = libc::dlsym(library, name.as_ptr());
        libc::dlclose(library);
        (!symbol.is_null()).then_some(symbol)
    }
}
