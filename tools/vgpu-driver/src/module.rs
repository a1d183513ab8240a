//! Modules and kernels.

use std::collections::HashMap;
use std::ffi::CString;
use std::sync::atomic::{AtomicBool, AtomicU32};
use std::sync::{Arc, Mutex, Weak};

use vgpu::{Image, Kernel, LoadError, Program};

use crate::context::{Context, lock};
use crate::driver::driver;
use crate::failure::{Failure, Result};
use crate::handles::Handle;
use crate::status::Status;

/// A module in a context.
pub struct Module {
    /// Handle of its context.
    pub context: Handle,
    /// The device.
    pub device: usize,
    /// The code, and its variables on the device.
    pub image: Image,
    /// Handles of the kernels that were asked for.
    functions: Mutex<HashMap<String, Handle>>,
}

/// Dynamic shared memory that a block gets without asking for more.
pub const DEFAULT_SHARED_BYTES: u32 = 48 * 1024;

/// A kernel that can be launched.
pub struct Function {
    /// Its module.
    pub module: Arc<Module>,
    /// Handle of the module.
    pub module_handle: Handle,
    /// Its name.
    pub name: String,
    /// The same for the caller.
    pub c_name: CString,
    /// Most dynamic shared memory that a launch may ask for.
    pub max_dynamic_bytes: AtomicU32,
    /// Clusters of more than 8 blocks are wanted.
    pub allows_large_clusters: AtomicBool,
    /// Preferred split of shared memory and cache; without effect.
    pub carveout: AtomicU32,
}

impl Function {
    /// The kernel.
    ///
    /// # Errors
    ///
    /// None: the function was made from it.
    pub fn kernel(&self) -> Result<&Kernel> {
        let kernel = self.module.image.program().kernel(&self.name);
        kernel.ok_or_else(|| Status::NOT_FOUND.into())
    }
}

/// Loads PTX into a context; the error's reason is the log of the compiler.
///
/// # Errors
///
/// `INVALID_PTX`, `OUT_OF_MEMORY`.
pub fn load(context: &Context, ptx: &str) -> Result<Handle> {
    let driver = driver()?;
    let program = program(ptx)?;
    let image = Image::load(program, driver.memory.clone(), context.device)?;
    let module = Module {
        context: context.handle,
        device: context.device,
        image,
        functions: Mutex::default(),
    };
    Ok(driver.modules.add(module))
}

/// The program of a text; one that is loaded already is used again.
///
/// # Errors
///
/// `INVALID_PTX`.
pub fn program(ptx: &str) -> Result<Arc<Program>> {
    static LOADED: Mutex<Option<HashMap<String, Weak<Program>>>> = Mutex::new(None);
    let known = lock(&LOADED).get_or_insert_default().get(ptx).and_then(Weak::upgrade);
    if let Some(program) = known {
        return Ok(program);
    }
    let program = Program::load(ptx).map_err(|error| {
        let reason = match &error {
            LoadError::Syntax(error) => error.to_string(),
            LoadError::Unsupported(all) => {
                format!("{} instructions or declarations are not supported:\n{error}", all.len())
            }
        };
        Failure::new(Status::INVALID_PTX, reason)
    })?;
    let program = Arc::new(program);
    let mut loaded = lock(&LOADED);
    let loaded = loaded.get_or_insert_default();
    loaded.retain(|_, program| program.strong_count() > 0);
    loaded.insert(ptx.to_owned(), Arc::downgrade(&program));
    Ok(program)
}

/// The handle of a kernel of a module.
///
/// # Errors
///
/// `INVALID_HANDLE`, `NOT_FOUND`.
pub fn function(module_handle: Handle, name: &str) -> Result<Handle> {
    let driver = driver()?;
    let module = driver.modules.get(module_handle)?;
    let mut functions = lock(&module.functions);
    if let Some(handle) = functions.get(name) {
        return Ok(*handle);
    }
    let program = module.image.program();
    if program.kernel(name).is_none() {
        let names: Vec<&str> = program.kernels().iter().map(Kernel::name).collect();
        let reason = format!("no kernel `{name}`; the module has {}", names.join(", "));
        return Err(Failure::new(Status::NOT_FOUND, reason));
    }
    let handle = driver.functions.add(Function {
        module: module.clone(),
        module_handle,
        name: name.to_owned(),
        c_name: CString::new(name).unwrap_or_default(),
        max_dynamic_bytes: AtomicU32::new(DEFAULT_SHARED_BYTES),
        allows_large_clusters: AtomicBool::new(false),
        carveout: AtomicU32::new(u32::MAX),
    });
    functions.insert(name.to_owned(), handle);
    Ok(handle)
}

/// Ends a module; launches that are on their way still run.
///
/// # Errors
///
/// `INVALID_HANDLE`.
pub fn unload(handle: Handle) -> Result<()> {
    let driver = driver()?;
    driver.modules.remove(handle)?;
    driver.functions.remove_if(|function| function.module_handle == handle);
    Ok(())
}
