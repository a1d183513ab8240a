//! Modules, their kernels and variables.

use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::sync::atomic::Ordering;

use vgpu::MAX_SHARED_BYTES;

use crate::capture::refuse_in_capture;
use crate::context::usable;
use crate::driver::driver;
use crate::entry::{api, lacking, put, put_text, text};
use crate::failure::{Failure, Result};
use crate::handles::Handle;
use crate::module::{Function, function, load, unload};
use crate::settings::settings;
use crate::status::Status;

/// First bytes of an ELF file, of a fat binary and of the wrapper around one.
const ELF: [u8; 4] = *b"\x7fELF";
const FAT_BINARY: u32 = 0xba55_ed50;
const FAT_WRAPPER: u32 = 0x466_243b1;
/// `CU_JIT_ERROR_LOG_BUFFER` and the option that says its length.
const ERROR_LOG: u32 = 5;
const ERROR_LOG_BYTES: u32 = 6;
/// The same for messages that are no errors.
const INFO_LOG_BYTES: u32 = 4;

api! {
    /// Loads a module from a file.
    fn cuModuleLoad(module: *mut Handle, path: *const c_char) {
        // SAFETY: the caller's string.
        let image = read_image(unsafe { text(path, "fname") }?)?;
        // SAFETY: the image ends with a zero byte; the caller's pointer.
        unsafe { load_image(module, image.as_ptr().cast(), None) }?;
    }

    /// Loads a module from PTX.
    fn cuModuleLoadData(module: *mut Handle, image: *const c_void) {
        // SAFETY: the caller's pointers.
        unsafe { load_image(module, image, None) }?;
    }

    /// Loads a module from PTX, with options; the logs are filled, the other options change nothing.
    fn cuModuleLoadDataEx(
        module: *mut Handle,
        image: *const c_void,
        num_options: c_uint,
        options: *const c_uint,
        values: *const *mut c_void,
    ) {
        let num = num_options as usize;
        if num > 0 && (options.is_null() || values.is_null()) {
            return Err(Failure::argument("options", "an array", "null"));
        }
        // SAFETY: the caller's arrays of `num` entries. Lengths of logs are values and answers.
        let log = unsafe { Log::find(num, options, values.cast_mut()) };
        // SAFETY: the caller's pointers.
        unsafe { load_image(module, image, Some(log)) }?;
    }

    /// Loads a fat binary: there is none for this device.
    fn cuModuleLoadFatBinary(module: *mut Handle, image: *const c_void) {
        // SAFETY: the caller's pointers.
        unsafe { load_image(module, image, None) }?;
    }

    /// Ends a module.
    fn cuModuleUnload(module: Handle) {
        usable()?;
        refuse_in_capture()?;
        unload(module)?;
    }

    /// Modules are loaded at once.
    fn cuModuleGetLoadingMode(mode: *mut c_uint) {
        // SAFETY: the caller's pointer.
        unsafe { put(mode, "mode", 1) }?;
    }

    /// A kernel.
    fn cuModuleGetFunction(result: *mut Handle, module: Handle, name: *const c_char) {
        usable()?;
        // SAFETY: the caller's string and pointer.
        unsafe { put(result, "hfunc", function(module, text(name, "name")?)?) }?;
    }

    /// Number of kernels.
    fn cuModuleGetFunctionCount(count: *mut c_uint, module: Handle) {
        let num = driver()?.modules.get(module)?.image.program().kernels().len();
        // SAFETY: the caller's pointer.
        unsafe { put(count, "count", num as c_uint) }?;
    }

    /// The first kernels.
    fn cuModuleEnumerateFunctions(functions: *mut Handle, num: c_uint, handle: Handle) {
        if functions.is_null() {
            return Err(Failure::argument("functions", "an array", "null"));
        }
        let module = driver()?.modules.get(handle)?;
        for (index, kernel) in module.image.program().kernels().iter().take(num as usize).enumerate() {
            let found = function(handle, kernel.name())?;
            // SAFETY: the caller's array of `num` entries.
            unsafe { functions.add(index).write(found) };
        }
    }

    /// A variable's address and size.
    fn cuModuleGetGlobal_v2(
        address: *mut u64,
        bytes: *mut usize,
        module: Handle,
        name: *const c_char,
    ) {
        usable()?;
        // SAFETY: the caller's string.
        let name = unsafe { text(name, "name") }?;
        let found = driver()?.modules.get(module)?.image.global(name);
        let none = || Failure::new(Status::NOT_FOUND, format!("no variable `{name}`"));
        let (start, length) = found.ok_or_else(none)?;
        if !address.is_null() {
            // SAFETY: the caller's pointer.
            unsafe { put(address, "dptr", start) }?;
        }
        if !bytes.is_null() {
            // SAFETY: the caller's pointer.
            unsafe { put(bytes, "bytes", length as usize) }?;
        }
    }

    /// The kernel's module.
    fn cuFuncGetModule(module: *mut Handle, handle: Handle) {
        let found = driver()?.function(handle)?.module_handle;
        // SAFETY: the caller's pointer.
        unsafe { put(module, "hmod", found) }?;
    }

    /// The kernel's name, valid as long as the module.
    fn cuFuncGetName(name: *mut *const c_char, handle: Handle) {
        let found = driver()?.function(handle)?;
        // SAFETY: the caller's pointer.
        unsafe { put(name, "name", CStr::as_ptr(&found.c_name)) }?;
    }

    /// Offset and size of a parameter.
    fn cuFuncGetParamInfo(handle: Handle, index: usize, offset: *mut usize, size: *mut usize) {
        let found = driver()?.function(handle)?;
        let params = found.kernel()?.params();
        let refuse = || Failure::argument("paramIndex", format!("below {}", params.len()), index);
        let param = params.get(index).ok_or_else(refuse)?;
        // SAFETY: the caller's pointer.
        unsafe { put(offset, "paramOffset", param.offset as usize) }?;
        if !size.is_null() {
            // SAFETY: the caller's pointer.
            unsafe { put(size, "paramSize", param.bytes as usize) }?;
        }
    }

    /// Kernels are loaded with their module.
    fn cuFuncIsLoaded(state: *mut c_uint, handle: Handle) {
        driver()?.function(handle)?;
        // SAFETY: the caller's pointer.
        unsafe { put(state, "state", 1) }?;
    }

    /// Kernels are loaded with their module.
    fn cuFuncLoad(handle: Handle) {
        driver()?.function(handle)?;
    }

    /// An attribute of a kernel.
    fn cuFuncGetAttribute(value: *mut c_int, attribute: c_uint, handle: Handle) {
        let found = attribute_of(&*driver()?.function(handle)?, attribute)?;
        // SAFETY: the caller's pointer.
        unsafe { put(value, "pi", found) }?;
    }

    /// Sets an attribute of a kernel.
    fn cuFuncSetAttribute(handle: Handle, attribute: c_uint, value: c_int) {
        usable()?;
        set_attribute(&*driver()?.function(handle)?, attribute, value)?;
    }

    /// A preference without effect.
    fn cuFuncSetCacheConfig(handle: Handle, _config: c_uint) {
        driver()?.function(handle)?;
    }
}

/// A file with a zero byte at its end.
pub(super) fn read_image(path: &str) -> Result<Vec<u8>> {
    let mut image = std::fs::read(path)
        .map_err(|error| Failure::new(Status::FILE_NOT_FOUND, format!("{path}: {error}")))?;
    image.push(0);
    Ok(image)
}

/// Where the caller wants to read why a module was not loaded.
#[derive(Clone, Copy)]
struct Log {
    buffer: *mut c_char,
    bytes: usize,
    /// The option's value, which becomes the length that was written.
    length: *mut usize,
}

impl Log {
    /// # Safety
    ///
    /// The arrays have `num` entries.
    unsafe fn find(num: usize, options: *const u32, values: *mut *mut c_void) -> Self {
        let mut log = Log { buffer: std::ptr::null_mut(), bytes: 0, length: std::ptr::null_mut() };
        for index in 0..num {
            // SAFETY: the caller's.
            let (option, value) = unsafe { (*options.add(index), values.add(index)) };
            // SAFETY: as above.
            let content = unsafe { *value };
            match option {
                ERROR_LOG => log.buffer = content.cast(),
                ERROR_LOG_BYTES => {
                    // The length is 32 bits of the value.
                    log.bytes = content as u32 as usize;
                    log.length = value.cast();
                }
                // Nothing will be written.
                // SAFETY: as above.
                INFO_LOG_BYTES => unsafe { value.cast::<usize>().write(0) },
                _ => {}
            }
        }
        log
    }

    /// # Safety
    ///
    /// The buffer is as long as the option says.
    unsafe fn write(self, message: &str) -> Result<()> {
        if self.buffer.is_null() || self.bytes == 0 {
            return Ok(());
        }
        // SAFETY: the caller's.
        unsafe {
            put_text(self.buffer, self.bytes, message, "CU_JIT_ERROR_LOG_BUFFER")?;
            self.length.write(message.len().min(self.bytes - 1) + 1);
        }
        Ok(())
    }
}

/// # Safety
///
/// The image ends with a zero byte, if it is text; pointers are null or valid.
unsafe fn load_image(module: *mut Handle, image: *const c_void, log: Option<Log>) -> Result<()> {
    let context = usable()?;
    refuse_in_capture()?;
    if module.is_null() || image.is_null() {
        return Err(Failure::argument("image", "an image and where to put the module", "null"));
    }
    // SAFETY: the image has at least one byte.
    let loaded = unsafe { ptx_of(image) }.and_then(|ptx| load(&context, ptx));
    let handle = match loaded {
        Ok(handle) => handle,
        Err(failure) => {
            if failure.status == Status::INVALID_PTX && !settings().log {
                eprintln!("vgpu: {}: {}", failure.status.name(), failure.reason);
            }
            if let Some(log) = log {
                // SAFETY: the caller's.
                unsafe { log.write(&failure.reason) }?;
            }
            return Err(failure);
        }
    };
    if let Some(Log { length, .. }) = log.filter(|log| !log.length.is_null()) {
        // SAFETY: the option's value; no error was logged.
        unsafe { length.write(0) };
    }
    // SAFETY: not null.
    unsafe { put(module, "module", handle) }
}

/// The text of an image.
///
/// # Safety
///
/// A string that ends with a zero byte, or a binary of at least four bytes.
pub(super) unsafe fn ptx_of<'a>(image: *const c_void) -> Result<&'a str> {
    // SAFETY: text of fewer than four bytes stops the comparison at its zero byte.
    let starts_with =
        |magic: [u8; 4]| unsafe { (0..4).all(|i| *image.cast::<u8>().add(i) == magic[i]) };
    let binaries = [ELF, FAT_BINARY.to_le_bytes(), FAT_WRAPPER.to_le_bytes()];
    if binaries.into_iter().any(starts_with) {
        let reason = "the virtual GPU runs PTX, not machine code";
        return Err(Failure::new(Status::NO_BINARY_FOR_GPU, reason));
    }
    // SAFETY: text.
    let text = unsafe { CStr::from_ptr(image.cast()) };
    let not_text = |_| Failure::new(Status::INVALID_IMAGE, "the image is neither PTX nor a binary");
    text.to_str().map_err(not_text)
}

/// Compute capability 9.0 and PTX of it.
const BINARY_VERSION: c_int = 90;

pub(super) fn attribute_of(function: &Function, attribute: u32) -> Result<c_int> {
    let kernel = function.kernel()?;
    Ok(match attribute {
        0 => kernel.max_threads() as c_int,
        1 => kernel.static_shared_bytes() as c_int,
        // Constants live in global memory here.
        2 => 0,
        3 => kernel.local_bytes() as c_int,
        // Rows of the virtual GPU's register file: not what ptxas would need.
        4 => kernel.num_register_rows().min(255) as c_int,
        5 | 6 => BINARY_VERSION,
        7 => 1,
        8 => function.max_dynamic_bytes.load(Ordering::Relaxed) as c_int,
        9 => function.carveout.load(Ordering::Relaxed) as c_int,
        // Whether and which cluster is required: see `LaunchError`.
        10..=13 => kernel.required_cluster().map_or(0, |extents| match attribute {
            10 => 1,
            _ => extents[attribute as usize - 11] as c_int,
        }),
        14 => function.allows_large_clusters.load(Ordering::Relaxed).into(),
        15 => 0,
        _ => return Err(Failure::argument("attrib", "a CUfunction_attribute", attribute)),
    })
}

pub(super) fn set_attribute(function: &Function, attribute: u32, value: c_int) -> Result<()> {
    match attribute {
        8 => {
            let most = MAX_SHARED_BYTES - function.kernel()?.static_shared_bytes();
            match u32::try_from(value) {
                Ok(bytes) if bytes <= most => {
                    function.max_dynamic_bytes.store(bytes, Ordering::Relaxed);
                    Ok(())
                }
                _ => Err(Failure::argument("value", format!("0 to {most} bytes"), value)),
            }
        }
        9 if (-1..=100).contains(&value) => {
            function.carveout.store(value as u32, Ordering::Relaxed);
            Ok(())
        }
        14 => {
            function.allows_large_clusters.store(value != 0, Ordering::Relaxed);
            Ok(())
        }
        11..=13 | 15 => Err(lacking(&format!("setting attribute {attribute} of a function"))),
        _ => Err(Failure::argument("attrib", "an attribute that can be set", attribute)),
    }
}
