//! Libraries: code of no context.

use std::ffi::{CStr, CString, c_void};
use std::ptr::null_mut;

use cudarc::driver::sys::{self, CUresult};
use cudarc::driver::{CudaContext, result};

use crate::child::on_vgpu;
use crate::device::{PTX, device};

const OK: CUresult = CUresult::CUDA_SUCCESS;

fn load(ptx: &str) -> Result<sys::CUlibrary, CUresult> {
    let (text, mut library) = (CString::new(ptx).unwrap(), null_mut());
    let code = text.as_ptr().cast::<c_void>();
    let (none, no_values) = (null_mut(), null_mut());
    // SAFETY: text that ends with a zero byte, and no options.
    let answer = unsafe {
        sys::cuLibraryLoadData(&mut library, code, none, no_values, 0, null_mut(), null_mut(), 0)
    };
    if answer == OK { Ok(library) } else { Err(answer) }
}

/// Launches a kernel of a library, as a function, on new memory; returns the first word.
fn add_on(context: &CudaContext, kernel: sys::CUkernel) -> u32 {
    context.bind_to_thread().unwrap();
    // SAFETY: the kernel takes an address and a value; memory lives to the end.
    unsafe {
        let start = result::malloc_sync(16).unwrap();
        result::memset_d8_sync(start, 0, 16).unwrap();
        let value = 2u32;
        let mut params =
            [(&raw const start).cast_mut().cast::<c_void>(), (&raw const value).cast_mut().cast()];
        let function = kernel as sys::CUfunction;
        let (params, none) = (params.as_mut_ptr(), null_mut());
        let answer = sys::cuLaunchKernel(function, 1, 1, 1, 32, 1, 1, 0, null_mut(), params, none);
        assert_eq!(answer, OK);
        let mut word = [0u32];
        result::memcpy_dtoh_sync(&mut word, start).unwrap();
        word[0]
    }
}

on_vgpu! {
    fn a_kernel_runs_in_every_context() {
        let gpu = device();
        let other = CudaContext::new(1).unwrap();
        assert_eq!(load("no PTX"), Err(CUresult::CUDA_ERROR_INVALID_PTX));
        let library = load(PTX).unwrap();
        // SAFETY: live handles and pointers; wrong ones are refused.
        unsafe {
            let (mut kernel, mut again, mut count) = (null_mut(), null_mut(), 0);
            let get = |kernel: &mut sys::CUkernel, name: &CStr| {
                sys::cuLibraryGetKernel(kernel, library, name.as_ptr())
            };
            assert_eq!(get(&mut kernel, c"nothing"), CUresult::CUDA_ERROR_NOT_FOUND);
            assert_eq!(get(&mut kernel, c"add"), OK);
            assert_eq!(get(&mut again, c"add"), OK);
            assert_eq!(kernel, again);
            assert_eq!(sys::cuLibraryGetKernelCount(&mut count, library), OK);
            let mut all = vec![null_mut(); count as usize];
            assert_eq!(sys::cuLibraryEnumerateKernels(all.as_mut_ptr(), count, library), OK);
            assert!(all.contains(&kernel) && !all.contains(&null_mut()));
            assert_eq!(add_on(&gpu.context, kernel), 64);
            assert_eq!(add_on(&other, kernel), 64);
            let mut name = std::ptr::null();
            assert_eq!(sys::cuKernelGetName(&mut name, kernel), OK);
            assert_eq!(CStr::from_ptr(name), c"add");
            let attribute = sys::CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK;
            let mut threads = 0;
            assert_eq!(sys::cuKernelGetAttribute(&mut threads, attribute, kernel, 1), OK);
            assert_eq!(threads, 1024);
            // Each context has the library's variables of its own.
            let place = |context: &CudaContext| {
                context.bind_to_thread().unwrap();
                let (mut address, mut bytes) = (0, 0);
                let name = c"counter".as_ptr();
                assert_eq!(sys::cuLibraryGetGlobal(&mut address, &mut bytes, library, name), OK);
                (address, bytes)
            };
            let (first, second) = (place(&gpu.context), place(&other));
            assert!(first.0 != second.0 && first.1 == 4 && second.1 == 4);
            assert_eq!(sys::cuLibraryUnload(library), OK);
            assert_eq!(sys::cuLibraryUnload(library), CUresult::CUDA_ERROR_INVALID_HANDLE);
            let mut function = null_mut();
            let gone = sys::cuKernelGetFunction(&mut function, kernel);
            assert_eq!(gone, CUresult::CUDA_ERROR_INVALID_HANDLE);
        }
    }
}
