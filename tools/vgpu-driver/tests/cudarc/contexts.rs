//! Devices, contexts, peers, errors and functions by name.

use std::ffi::{CStr, c_void};
use std::thread;

use cudarc::driver::sys::{self, CUdevice_attribute, CUresult};
use cudarc::driver::{CudaContext, result};

use crate::child::{in_child, on_vgpu};
use crate::device::code;

const OK: CUresult = CUresult::CUDA_SUCCESS;

on_vgpu! {
    fn nothing_works_before_the_driver_is_initialised() {
        let mut count = 0;
        // SAFETY: live pointers.
        unsafe {
            let early = sys::cuDeviceGetCount(&mut count);
            assert_eq!(early, CUresult::CUDA_ERROR_NOT_INITIALIZED);
            assert_eq!(sys::cuInit(1), CUresult::CUDA_ERROR_INVALID_VALUE);
            assert_eq!(sys::cuInit(0), OK);
            assert_eq!(sys::cuDeviceGetCount(&mut count), OK);
            assert_eq!(count, 8);
            let mut version = 0;
            assert_eq!(sys::cuDriverGetVersion(&mut version), OK);
            assert_eq!(version, 13_000);
            let mut address = 0;
            let none = sys::cuMemAlloc_v2(&mut address, 4);
            assert_eq!(none, CUresult::CUDA_ERROR_INVALID_CONTEXT);
        }
    }

    fn a_device_describes_itself() {
        let context = CudaContext::new(7).unwrap();
        assert!(context.name().unwrap().contains("H100"));
        assert_eq!(context.compute_capability().unwrap(), (9, 0));
        let attribute = CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT;
        assert_eq!(context.attribute(attribute).unwrap(), 132);
        assert_eq!(code(CudaContext::new(8)), CUresult::CUDA_ERROR_INVALID_DEVICE);
        assert_ne!(context.uuid().unwrap().bytes, CudaContext::new(6).unwrap().uuid().unwrap().bytes);
    }

    fn each_thread_has_its_own_stack_of_contexts() {
        result::init().unwrap();
        // SAFETY: contexts are live while they are used.
        unsafe {
            let (mut first, mut second) = (std::ptr::null_mut(), std::ptr::null_mut());
            assert_eq!(sys::cuCtxCreate_v4(&mut first, std::ptr::null_mut(), 0, 0), OK);
            assert_eq!(sys::cuCtxCreate_v4(&mut second, std::ptr::null_mut(), 0, 1), OK);
            let current = || result::ctx::get_current().unwrap();
            assert_eq!(current(), Some(second));
            thread::scope(|scope| {
                scope.spawn(|| assert_eq!(result::ctx::get_current().unwrap(), None));
            });
            let mut popped = std::ptr::null_mut();
            assert_eq!(sys::cuCtxPopCurrent_v2(&mut popped), OK);
            assert_eq!((popped, current()), (second, Some(first)));
            assert_eq!(sys::cuCtxDestroy_v2(first), OK);
            assert_eq!(current(), None);
            assert_eq!(sys::cuCtxDestroy_v2(first), CUresult::CUDA_ERROR_INVALID_HANDLE);
            let gone = sys::cuCtxSetCurrent(first);
            assert_eq!(gone, CUresult::CUDA_ERROR_INVALID_CONTEXT);
        }
    }

    fn peer_access_is_asked_for_once() {
        let (here, there) = (CudaContext::new(0).unwrap(), CudaContext::new(1).unwrap());
        here.bind_to_thread().unwrap();
        // SAFETY: live contexts.
        unsafe {
            let mut can = 0;
            assert_eq!(sys::cuDeviceCanAccessPeer(&mut can, 0, 1), OK);
            assert_eq!(can, 1);
            let not_yet = sys::cuCtxDisablePeerAccess(there.cu_ctx());
            assert_eq!(not_yet, CUresult::CUDA_ERROR_PEER_ACCESS_NOT_ENABLED);
            assert_eq!(sys::cuCtxEnablePeerAccess(there.cu_ctx(), 0), OK);
            let twice = sys::cuCtxEnablePeerAccess(there.cu_ctx(), 0);
            assert_eq!(twice, CUresult::CUDA_ERROR_PEER_ACCESS_ALREADY_ENABLED);
            let itself = sys::cuCtxEnablePeerAccess(here.cu_ctx(), 0);
            assert_eq!(itself, CUresult::CUDA_ERROR_INVALID_DEVICE);
        }
    }

    fn codes_are_named_as_in_the_header() {
        for code in [CUresult::CUDA_ERROR_INVALID_CLUSTER_SIZE, CUresult::CUDA_ERROR_ASSERT, OK] {
            assert_eq!(result_name(code), format!("{code:?}"));
        }
        let mut text = std::ptr::null();
        // SAFETY: live pointers.
        unsafe {
            assert_eq!(sys::cuGetErrorString(CUresult::CUDA_ERROR_INVALID_VALUE, &mut text), OK);
            assert_eq!(CStr::from_ptr(text), c"invalid argument");
        }
    }

    fn functions_are_found_by_name_and_version() {
        result::init().unwrap();
        let find = |name: &CStr, version| {
            let mut found = std::ptr::null_mut::<c_void>();
            // SAFETY: live pointers; a status is not asked for.
            let answer = unsafe {
                let none = std::ptr::null_mut();
                sys::cuGetProcAddress_v2(name.as_ptr(), &mut found, version, 0, none)
            };
            (answer, found)
        };
        let (answer, found) = find(c"cuDeviceGetCount", 13_000);
        assert_eq!(answer, OK);
        let mut count = 0;
        // SAFETY: the function's type.
        unsafe {
            let call: unsafe extern "C" fn(*mut i32) -> CUresult = std::mem::transmute(found);
            assert_eq!(call(&mut count), OK);
        }
        assert_eq!(count, 8);
        assert_ne!(find(c"cuEventElapsedTime", 12_000), find(c"cuEventElapsedTime", 13_000));
        assert_eq!(find(c"cuMakeCoffee", 13_000), (CUresult::CUDA_ERROR_NOT_FOUND, std::ptr::null_mut()));
    }
}

#[test]
fn what_is_lacking_is_named_once() {
    let path = concat!(module_path!(), "::what_is_lacking_is_named_once");
    let output = in_child(path, &[], || {
        let _context = CudaContext::new(0).unwrap();
        for _ in 0..2 {
            // SAFETY: arguments are not looked at.
            let answer = unsafe { sys::cuArrayDestroy(std::ptr::null_mut()) };
            assert_eq!(answer, CUresult::CUDA_ERROR_NOT_SUPPORTED);
        }
    });
    if let Some(output) = output {
        assert_eq!(output.matches("cuArrayDestroy is not supported").count(), 1, "{output}");
    }
}

#[test]
fn the_environment_chooses_devices_and_says_why_a_call_is_refused() {
    let path =
        concat!(module_path!(), "::the_environment_chooses_devices_and_says_why_a_call_is_refused");
    let variables =
        [("VGPU_DEVICES", "2"), ("VGPU_SMS", "5"), ("VGPU_LOG", "1"), ("VGPU_FUEL", "x")];
    let output = in_child(path, &variables, || {
        assert_eq!(CudaContext::device_count().unwrap(), 2);
        let context = CudaContext::new(1).unwrap();
        let attribute = CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT;
        assert_eq!(context.attribute(attribute).unwrap(), 5);
        // SAFETY: refused.
        assert!(unsafe { result::malloc_sync(0) }.is_err());
    });
    if let Some(output) = output {
        assert!(
            output.contains("cuMemAlloc_v2: CUDA_ERROR_INVALID_VALUE: `bytesize` is 0"),
            "{output}"
        );
        assert!(output.contains("VGPU_FUEL is `x`"), "{output}");
    }
}

fn result_name(code: CUresult) -> String {
    let mut name = std::ptr::null();
    // SAFETY: live pointers; names live as long as the library.
    unsafe {
        assert_eq!(sys::cuGetErrorName(code, &mut name), OK);
        CStr::from_ptr(name).to_string_lossy().into_owned()
    }
}
