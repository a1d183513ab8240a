//! Opens the driver, and makes sure that no later call can fail for want of a symbol.

use std::sync::OnceLock;

use cudarc::driver::{result, sys};

use super::call;
use crate::error::{Error, Result};

const OP: &str = "cuda backend";
/// CUDA 13.0, whose names of functions the calls use.
const OLDEST_DRIVER: i32 = 13_000;

/// Every function that this crate calls, as the library names it. cudarc looks each up at its first
/// call and panics if it is missing; so they are looked up here first.
const SYMBOLS: [&str; 58] = [
    "cuCtxEnablePeerAccess",
    "cuCtxGetCurrent",
    "cuCtxGetDevice",
    "cuCtxSetCurrent",
    "cuCtxSynchronize",
    "cuDeviceCanAccessPeer",
    "cuDeviceGet",
    "cuDeviceGetAttribute",
    "cuDeviceGetCount",
    "cuDeviceGetName",
    "cuDevicePrimaryCtxRelease_v2",
    "cuDevicePrimaryCtxRetain",
    "cuDriverGetVersion",
    "cuEventCreate",
    "cuEventDestroy_v2",
    "cuEventElapsedTime_v2",
    "cuEventRecord",
    "cuEventSynchronize",
    "cuFuncGetAttribute",
    "cuFuncSetAttribute",
    "cuGetErrorName",
    "cuGetErrorString",
    "cuGraphDestroy",
    "cuGraphExecDestroy",
    "cuGraphInstantiateWithFlags",
    "cuGraphLaunch",
    "cuInit",
    "cuIpcCloseMemHandle",
    "cuIpcGetMemHandle",
    "cuIpcOpenMemHandle_v2",
    "cuLaunchKernelEx",
    "cuMemAddressFree",
    "cuMemAddressReserve",
    "cuMemAlloc_v2",
    "cuMemCreate",
    "cuMemExportToShareableHandle",
    "cuMemFree_v2",
    "cuMemGetAddressRange_v2",
    "cuMemGetAllocationGranularity",
    "cuMemImportFromShareableHandle",
    "cuMemMap",
    "cuMemRelease",
    "cuMemSetAccess",
    "cuMemUnmap",
    "cuMemcpyDtoH_v2",
    "cuMemcpyHtoD_v2",
    "cuMemsetD8Async",
    "cuMemsetD8_v2",
    "cuModuleGetFunction",
    "cuModuleLoadData",
    "cuModuleUnload",
    "cuStreamBeginCapture_v2",
    "cuStreamCreate",
    "cuStreamDestroy_v2",
    "cuStreamEndCapture",
    "cuStreamSynchronize",
    "cuStreamWaitEvent",
    "cuTensorMapEncodeTiled",
];

/// Opens and initialises the driver, once.
///
/// # Errors
///
/// [`Error::Unavailable`] if there is no driver, no device, or an old driver.
pub fn open_library() -> Result<()> {
    static OPENED: OnceLock<()> = OnceLock::new();
    if OPENED.get().is_none() {
        open()?;
        OPENED.get_or_init(|| ());
    }
    Ok(())
}

fn open() -> Result<()> {
    let unavailable = |reason: String| Error::Unavailable { op: OP, what: "CUDA driver", reason };
    // SAFETY: opening the CUDA driver's library runs initialisers meant for any process.
    if !unsafe { sys::is_culib_present() } {
        return Err(unavailable("no libcuda.so or libcuda.so.1 was found".to_owned()));
    }
    // SAFETY: it was found just now.
    let library = unsafe { sys::culib() };
    let is_missing = |name: &&&str| {
        // SAFETY: the symbol is looked for, not used.
        unsafe { library.get::<*const std::ffi::c_void>(name.as_bytes()) }.is_err()
    };
    if let Some(missing) = SYMBOLS.iter().find(is_missing) {
        let reason = format!("its library lacks {missing}; CUDA 13.0 or later is needed");
        return Err(unavailable(reason));
    }
    result::init().map_err(|error| unavailable(super::reason(error)))?;
    let mut version = 0;
    // SAFETY: the pointer is that of a live integer.
    let answer = unsafe { sys::cuDriverGetVersion(&mut version) }.result();
    call(OP, "cuDriverGetVersion", answer)?;
    if version < OLDEST_DRIVER {
        let (major, minor) = (version / 1000, version % 1000 / 10);
        return Err(unavailable(format!(
            "it is for CUDA {major}.{minor}; 13.0 or later is needed"
        )));
    }
    Ok(())
}
