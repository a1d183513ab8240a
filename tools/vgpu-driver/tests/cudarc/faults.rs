//! Kernels' faults: they end the context, and the user learns where they happened.

use cudarc::driver::sys::{self, CUresult};
use cudarc::driver::{CudaContext, result};

use crate::child::{in_child, on_vgpu};
use crate::device::{code, device, one_block};

#[test]
fn a_fault_is_sticky_and_shown_in_full() {
    let path = concat!(module_path!(), "::a_fault_is_sticky_and_shown_in_full");
    let folder = tempfile::TempDir::new().unwrap();
    let file = folder.path().join("faults.txt");
    let variables = [("VGPU_FAULT_FILE", file.to_str().unwrap())];
    let output = in_child(path, &variables, || {
        let gpu = device();
        let words = gpu.stream.alloc_zeros::<u32>(4).unwrap();
        gpu.stream.synchronize().unwrap();
        let illegal = CUresult::CUDA_ERROR_ILLEGAL_ADDRESS;
        gpu.launch(&gpu.stream, "add", 0x1234_5678, &1u32);
        assert_eq!(code(gpu.stream.synchronize()), illegal);
        // Every later call of the context fails the same way.
        assert_eq!(code(gpu.stream.clone_dtoh(&words)), illegal);
        assert_eq!(code(gpu.stream.alloc_zeros::<u32>(4)), illegal);
        assert_eq!(code(gpu.context.synchronize()), illegal);
        // Another device's context goes on.
        let other = CudaContext::new(1).unwrap();
        assert_eq!(code(other.new_stream().unwrap().alloc_zeros::<u32>(4)), CUresult::CUDA_SUCCESS);
        // A new context of the device works again.
        // SAFETY: what the old one owned is not used again.
        unsafe {
            assert_eq!(sys::cuDevicePrimaryCtxReset_v2(0), CUresult::CUDA_SUCCESS);
            let context = result::primary_ctx::retain(0).unwrap();
            result::ctx::set_current(context).unwrap();
            assert!(result::malloc_sync(16).is_ok());
        }
        std::mem::forget((words, gpu));
    });
    let Some(output) = output else { return };
    for text in [output, std::fs::read_to_string(&file).unwrap()] {
        let parts =
            ["CUDA_ERROR_ILLEGAL_ADDRESS: kernel `add`", "atom.global.add.u32", "0x12345678"];
        assert!(parts.iter().all(|part| text.contains(part)), "{text}");
        assert!(text.contains("block (0, 0, 0), thread (0, 0, 0)"), "{text}");
    }
}

on_vgpu! {
    fn a_misaligned_access_has_a_code_of_its_own() {
        let gpu = device();
        let words = gpu.stream.alloc_zeros::<u32>(4).unwrap();
        let address = crate::memory::address(&words);
        gpu.launch(&gpu.stream, "add", address + 2, &1u32);
        assert_eq!(code(gpu.stream.synchronize()), CUresult::CUDA_ERROR_MISALIGNED_ADDRESS);
    }

    fn a_trap_fails_the_launch() {
        let gpu = device();
        let stops = gpu.kernel("stops");
        // SAFETY: the kernel takes nothing.
        unsafe { gpu.stream.launch_builder(&stops).launch(one_block(1)) }.unwrap();
        assert_eq!(code(gpu.stream.synchronize()), CUresult::CUDA_ERROR_LAUNCH_FAILED);
    }

    fn memory_that_was_freed_is_not_accessed() {
        let gpu = device();
        // SAFETY: the kernel's access is the fault that is wanted.
        unsafe {
            let address = result::malloc_sync(64).unwrap();
            result::free_sync(address).unwrap();
            assert_eq!(code(result::free_sync(address)), CUresult::CUDA_ERROR_INVALID_VALUE);
            gpu.launch(&gpu.stream, "add", address, &1u32);
            assert_eq!(code(gpu.stream.synchronize()), CUresult::CUDA_ERROR_ILLEGAL_ADDRESS);
        }
    }

    fn work_behind_a_fault_is_not_done() {
        let gpu = device();
        let other = gpu.context.new_stream().unwrap();
        // SAFETY: live memory; it is not freed, since the context is of no use in the end.
        unsafe {
            let words: *mut u32 = result::malloc_host(16, 0).unwrap().cast();
            let address = words as u64;
            // The stream waits for the flag, then makes a mistake; its addition must not be done.
            gpu.launch(&gpu.stream, "wait_for", address, &0u32);
            gpu.launch(&gpu.stream, "add", 8, &1u32);
            gpu.launch(&gpu.stream, "add", address + 8, &1u32);
            result::memset_d8_async(address, 1, 1, other.cu_stream()).unwrap();
            assert_eq!(code(gpu.stream.synchronize()), CUresult::CUDA_ERROR_ILLEGAL_ADDRESS);
            assert_eq!([words.read(), words.add(1).read(), words.add(2).read()], [1, 1, 0]);
        }
    }
}
