//! Libraries and their kernels.

use std::ffi::{CStr, c_char, c_int, c_uint, c_void};

use crate::context::usable;
use crate::driver::driver;
use crate::entry::{api, lacking, put, text};
use crate::failure::{Failure, Result};
use crate::handles::Handle;
use crate::library::Library;
use crate::status::Status;

use super::module::{attribute_of, ptx_of, read_image, set_attribute};

api! {
    /// Loads a library from PTX. Options change nothing.
    fn cuLibraryLoadData(
        library: *mut Handle,
        code: *const c_void,
        _jit_options: *const c_uint,
        _jit_values: *const *mut c_void,
        _num_jit_options: c_uint,
        _options: *const c_uint,
        _values: *const *mut c_void,
        _num_options: c_uint,
    ) {
        // SAFETY: the caller's image and pointer.
        unsafe { load(library, code) }?;
    }

    /// Loads a library from a file of PTX. Options change nothing.
    fn cuLibraryLoadFromFile(
        library: *mut Handle,
        path: *const c_char,
        _jit_options: *const c_uint,
        _jit_values: *const *mut c_void,
        _num_jit_options: c_uint,
        _options: *const c_uint,
        _values: *const *mut c_void,
        _num_options: c_uint,
    ) {
        // SAFETY: the caller's string.
        let image = read_image(unsafe { text(path, "fileName") }?)?;
        // SAFETY: the image ends with a zero byte; the caller's pointer.
        unsafe { load(library, image.as_ptr().cast()) }?;
    }

    /// Ends a library and its modules.
    fn cuLibraryUnload(library: Handle) {
        let driver = driver()?;
        driver.libraries.remove(library)?.unload()?;
        driver.kernels.remove_if(|kernel| kernel.library == library);
    }

    /// A kernel of a library.
    fn cuLibraryGetKernel(kernel: *mut Handle, library: Handle, name: *const c_char) {
        // SAFETY: the caller's string.
        let found = driver()?.library_kernel(library, unsafe { text(name, "name") }?)?;
        // SAFETY: the caller's pointer.
        unsafe { put(kernel, "pKernel", found) }?;
    }

    /// Number of kernels.
    fn cuLibraryGetKernelCount(count: *mut c_uint, library: Handle) {
        let num = driver()?.libraries.get(library)?.names().len();
        // SAFETY: the caller's pointer.
        unsafe { put(count, "count", num as c_uint) }?;
    }

    /// The first kernels.
    fn cuLibraryEnumerateKernels(kernels: *mut Handle, num: c_uint, library: Handle) {
        if kernels.is_null() {
            return Err(Failure::argument("kernels", "an array", "null"));
        }
        let found = driver()?.libraries.get(library)?;
        for (index, name) in found.names().into_iter().take(num as usize).enumerate() {
            let kernel = driver()?.library_kernel(library, name)?;
            // SAFETY: the caller's array of `num` entries.
            unsafe { kernels.add(index).write(kernel) };
        }
    }

    /// The library's module in this thread's context.
    fn cuLibraryGetModule(module: *mut Handle, library: Handle) {
        let found = driver()?.libraries.get(library)?.module(&*usable()?)?;
        // SAFETY: the caller's pointer.
        unsafe { put(module, "pMod", found) }?;
    }

    /// A variable's address and size in this thread's context.
    fn cuLibraryGetGlobal(
        address: *mut u64,
        bytes: *mut usize,
        library: Handle,
        name: *const c_char,
    ) {
        let module = driver()?.libraries.get(library)?.module(&*usable()?)?;
        // SAFETY: the caller's string and pointers.
        let answer = unsafe { super::cuModuleGetGlobal_v2(address, bytes, module, name) };
        return super::device::passed(answer);
    }

    /// A kernel as a function of this thread's context.
    fn cuKernelGetFunction(function: *mut Handle, kernel: Handle) {
        // SAFETY: the caller's pointer.
        unsafe { put(function, "pFunc", driver()?.function_of_kernel(kernel)?) }?;
    }

    /// The kernel's library.
    fn cuKernelGetLibrary(library: *mut Handle, kernel: Handle) {
        // SAFETY: the caller's pointer.
        unsafe { put(library, "pLib", driver()?.kernels.get(kernel)?.library) }?;
    }

    /// The kernel's name, valid as long as the library.
    fn cuKernelGetName(name: *mut *const c_char, kernel: Handle) {
        let found = driver()?.kernels.get(kernel)?;
        // SAFETY: the caller's pointer.
        unsafe { put(name, "name", CStr::as_ptr(&found.c_name)) }?;
    }

    /// Offset and size of a parameter.
    fn cuKernelGetParamInfo(kernel: Handle, index: usize, offset: *mut usize, size: *mut usize) {
        let function = driver()?.function_of_kernel(kernel)?;
        // SAFETY: the caller's pointers.
        let answer = unsafe { super::cuFuncGetParamInfo(function, index, offset, size) };
        return super::device::passed(answer);
    }

    /// An attribute of a kernel on the device of this thread's context.
    fn cuKernelGetAttribute(value: *mut c_int, attribute: c_uint, kernel: Handle, dev: c_int) {
        own_device(dev)?;
        let function = driver()?.function(kernel)?;
        // SAFETY: the caller's pointer.
        unsafe { put(value, "pi", attribute_of(&function, attribute)?) }?;
    }

    /// Sets an attribute of a kernel on the device of this thread's context.
    fn cuKernelSetAttribute(attribute: c_uint, value: c_int, kernel: Handle, dev: c_int) {
        own_device(dev)?;
        set_attribute(&*driver()?.function(kernel)?, attribute, value)?;
    }

    /// A preference without effect.
    fn cuKernelSetCacheConfig(kernel: Handle, _config: c_uint, dev: c_int) {
        driver()?.device(dev)?;
        driver()?.kernels.get(kernel)?;
    }
}

fn own_device(dev: c_int) -> Result<()> {
    match driver()?.device(dev)? == usable()?.device {
        true => Ok(()),
        false => Err(lacking("a kernel's attribute on another device")),
    }
}

/// # Safety
///
/// The image ends with a zero byte, if it is text; the pointer is null or valid.
unsafe fn load(library: *mut Handle, code: *const c_void) -> Result<()> {
    if library.is_null() || code.is_null() {
        return Err(Failure::argument("code", "code and where to put the library", "null"));
    }
    // SAFETY: the caller's.
    let loaded = unsafe { ptx_of(code) }.and_then(Library::load).inspect_err(|failure| {
        if failure.status == Status::INVALID_PTX && !crate::settings::settings().log {
            eprintln!("vgpu: {}: {}", failure.status.name(), failure.reason);
        }
    })?;
    // SAFETY: not null.
    unsafe { put(library, "library", driver()?.libraries.add(loaded)) }
}
