//! Loads the compiled kernels: machine code where the device takes it, else PTX.

use std::collections::HashMap;
use std::ffi::{CString, c_void};
use std::sync::Arc;

use cudarc::driver::sys::{CUdevice_attribute, CUfunction_attribute, CUresult};
use cudarc::driver::{DriverError, result, sys};

use super::{Context, call, is};
use crate::backend::cuda::kernels::{KERNEL_MODULES, KernelModule};
use crate::error::{Error, Result};

const OP: &str = "cuda kernels";

/// A kernel that can be launched.
#[derive(Debug, Clone, Copy)]
pub struct Kernel {
    pub(super) function: sys::CUfunction,
    /// Dynamic shared memory that a launch may ask for, in bytes.
    pub max_dynamic_shared_bytes: usize,
}

/// All kernels of this build, loaded into a context.
#[derive(Debug)]
pub struct Kernels {
    context: Arc<Context>,
    modules: Vec<sys::CUmodule>,
    by_name: HashMap<&'static str, Kernel>,
}

// SAFETY: modules and functions may be used from any thread; the driver locks them.
unsafe impl Send for Kernels {}
// SAFETY: as above.
unsafe impl Sync for Kernels {}

impl Kernels {
    /// Loads all, so that nothing has to be loaded while a graph is captured.
    pub fn load(context: &Arc<Context>) -> Result<Self> {
        context.bind()?;
        let attribute = CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN;
        let max_shared_bytes = context.attribute(attribute)?;
        let (modules, by_name) = (Vec::new(), HashMap::new());
        let mut kernels = Self { context: Arc::clone(context), modules, by_name };
        for module in KERNEL_MODULES {
            let handle = load_module(module)?;
            kernels.modules.push(handle);
            for name in module.kernels {
                kernels.by_name.insert(name, load_kernel(handle, name, max_shared_bytes)?);
            }
        }
        Ok(kernels)
    }

    /// The kernel of this name.
    pub fn get(&self, op: &'static str, name: &str) -> Result<Kernel> {
        self.by_name.get(name).copied().ok_or(Error::KernelsNotBuilt { op })
    }
}

impl Drop for Kernels {
    fn drop(&mut self) {
        if self.context.bind().is_ok() {
            for &module in &self.modules {
                // SAFETY: loaded by `load`. A failure has nobody to go to.
                let _ = unsafe { result::module::unload(module) };
            }
        }
    }
}

fn load_module(module: &KernelModule) -> Result<sys::CUmodule> {
    match load_image(module.cubin) {
        Err(error)
            if is(&error, CUresult::CUDA_ERROR_NO_BINARY_FOR_GPU) && !module.ptx.is_empty() =>
        {
            let ptx = CString::new(module.ptx).map_err(|_| Error::Driver {
                op: OP,
                call: "cuModuleLoadData",
                reason: format!("the PTX of `{}` has a zero byte", module.name),
            })?;
            call(OP, "cuModuleLoadData (PTX)", load_image(ptx.as_bytes_with_nul()))
        }
        answer => call(OP, "cuModuleLoadData (cubin)", answer),
    }
}

fn load_image(image: &[u8]) -> Result<sys::CUmodule, DriverError> {
    // SAFETY: a whole cubin, which tells its size, or text that ends with a zero byte.
    unsafe { result::module::load_data(image.as_ptr().cast::<c_void>()) }
}

/// Finds a kernel and lets it use all the shared memory that a CTA can have.
fn load_kernel(module: sys::CUmodule, name: &str, max_shared_bytes: usize) -> Result<Kernel> {
    let c_name = CString::new(name).map_err(|_| Error::KernelsNotBuilt { op: OP })?;
    // SAFETY: the module is loaded.
    let answer = unsafe { result::module::get_function(module, c_name) };
    let function = call(OP, "cuModuleGetFunction", answer)?;
    let attribute = CUfunction_attribute::CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES;
    // SAFETY: the function belongs to a loaded module.
    let answer = unsafe { result::function::get_function_attribute(function, attribute) };
    let static_bytes = usize::try_from(call(OP, "cuFuncGetAttribute", answer)?).unwrap_or(0);
    let max_dynamic_shared_bytes = max_shared_bytes.saturating_sub(static_bytes);
    let attribute = CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
    let value = i32::try_from(max_dynamic_shared_bytes).unwrap_or(i32::MAX);
    // SAFETY: as above.
    let answer = unsafe { result::function::set_function_attribute(function, attribute, value) };
    call(OP, "cuFuncSetAttribute", answer)?;
    Ok(Kernel { function, max_dynamic_shared_bytes })
}
