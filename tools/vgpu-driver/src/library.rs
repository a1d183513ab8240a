//! Libraries: code that belongs to no context, and becomes a module of each that uses it.

use std::collections::{BTreeMap, HashMap};
use std::ffi::CString;
use std::sync::{Arc, Mutex};

use vgpu::{Kernel, Program};

use crate::context::{Context, lock, usable};
use crate::driver::{Driver, driver};
use crate::failure::{Failure, Result};
use crate::handles::Handle;
use crate::module::{self, Function};
use crate::status::Status;

/// A library.
pub struct Library {
    ptx: String,
    program: Arc<Program>,
    /// Its module in each context that has used it.
    modules: Mutex<HashMap<Handle, Handle>>,
    /// Handles of the kernels that were asked for.
    kernels: Mutex<BTreeMap<String, Handle>>,
}

/// A kernel of a library.
pub struct LibraryKernel {
    /// Handle of the library.
    pub library: Handle,
    /// Its name.
    pub name: String,
    /// The same for the caller.
    pub c_name: CString,
}

impl Library {
    /// Prepares PTX.
    ///
    /// # Errors
    ///
    /// `INVALID_PTX`.
    pub fn load(ptx: &str) -> Result<Self> {
        Ok(Library {
            ptx: ptx.to_owned(),
            program: module::program(ptx)?,
            modules: Mutex::default(),
            kernels: Mutex::default(),
        })
    }

    /// Names of its kernels.
    pub fn names(&self) -> Vec<&str> {
        self.program.kernels().iter().map(Kernel::name).collect()
    }

    /// The module of a context.
    ///
    /// # Errors
    ///
    /// `OUT_OF_MEMORY`.
    pub fn module(&self, context: &Context) -> Result<Handle> {
        let mut modules = lock(&self.modules);
        if let Some(handle) = modules.get(&context.handle) {
            return Ok(*handle);
        }
        let handle = module::load(context, &self.ptx)?;
        modules.insert(context.handle, handle);
        Ok(handle)
    }

    /// Ends its modules.
    ///
    /// # Errors
    ///
    /// Those of the driver.
    pub fn unload(&self) -> Result<()> {
        for (_, handle) in lock(&self.modules).drain() {
            // A context's end has ended its module too.
            if driver()?.modules.get(handle).is_ok() {
                module::unload(handle)?;
            }
        }
        Ok(())
    }
}

impl Driver {
    /// The handle of a library's kernel; the same for the same name.
    ///
    /// # Errors
    ///
    /// `INVALID_HANDLE`, `NOT_FOUND`.
    pub fn library_kernel(&self, library: Handle, name: &str) -> Result<Handle> {
        let found = self.libraries.get(library)?;
        if !found.names().contains(&name) {
            let reason =
                format!("no kernel `{name}`; the library has {}", found.names().join(", "));
            return Err(Failure::new(Status::NOT_FOUND, reason));
        }
        let mut kernels = lock(&found.kernels);
        if let Some(handle) = kernels.get(name) {
            return Ok(*handle);
        }
        let c_name = CString::new(name).unwrap_or_default();
        let handle = self.kernels.add(LibraryKernel { library, name: name.to_owned(), c_name });
        kernels.insert(name.to_owned(), handle);
        Ok(handle)
    }

    /// The function of a library's kernel in this thread's context.
    ///
    /// # Errors
    ///
    /// `INVALID_HANDLE`, and those of loading the module.
    pub fn function_of_kernel(&self, kernel: Handle) -> Result<Handle> {
        let kernel = self.kernels.get(kernel)?;
        let module = self.libraries.get(kernel.library)?.module(&*usable()?)?;
        module::function(module, &kernel.name)
    }

    /// A function, or that of a library's kernel in this thread's context.
    ///
    /// # Errors
    ///
    /// `INVALID_HANDLE`.
    pub fn function(&self, handle: Handle) -> Result<Arc<Function>> {
        let is_kernel = self.kernels.get(handle).is_ok();
        let handle = if is_kernel { self.function_of_kernel(handle)? } else { handle };
        self.functions.get(handle)
    }
}
