//! Streams, events, host functions.

use std::ffi::c_void;
use std::sync::atomic::{AtomicU32, Ordering};

use cudarc::driver::sys::{self, CUevent_flags, CUresult};
use cudarc::driver::{CudaSlice, result};

use crate::child::{in_child, on_vgpu};
use crate::device::{code, device};
use crate::launches::function;
use crate::memory::address;

on_vgpu! {
    fn streams_run_at_the_same_time() {
        let gpu = device();
        let other = gpu.context.new_stream().unwrap();
        let words: CudaSlice<u32> = gpu.stream.alloc_zeros(2).unwrap();
        gpu.stream.synchronize().unwrap();
        let address = address(&words);
        gpu.launch(&gpu.stream, "wait_for", address, &0u32);
        // SAFETY: live handles and memory.
        unsafe {
            assert_eq!(sys::cuStreamQuery(gpu.stream.cu_stream()), CUresult::CUDA_ERROR_NOT_READY);
            result::memset_d8_async(address, 1, 4, other.cu_stream()).unwrap();
        }
        gpu.stream.synchronize().unwrap();
        assert_eq!(gpu.stream.clone_dtoh(&words).unwrap(), [0x0101_0101, 1]);
    }

    fn an_event_orders_streams_and_keeps_the_time() {
        let gpu = device();
        let other = gpu.context.new_stream().unwrap();
        let words: CudaSlice<u32> = gpu.stream.alloc_zeros(4).unwrap();
        gpu.stream.synchronize().unwrap();
        let address = address(&words);
        let has_time = Some(CUevent_flags::CU_EVENT_DEFAULT);
        let start = gpu.stream.record_event(has_time).unwrap();
        gpu.launch(&gpu.stream, "wait_for", address, &0u32);
        let end = gpu.stream.record_event(has_time).unwrap();
        assert!(!end.is_complete());
        // The other stream's addition comes after the kernel, which waits for the host.
        other.wait(&end).unwrap();
        gpu.launch(&other, "add", address + 4, &10u32);
        assert_eq!(query(other.cu_stream()), CUresult::CUDA_ERROR_NOT_READY);
        let third = gpu.context.new_stream().unwrap();
        // SAFETY: live handles and memory.
        unsafe { result::memset_d8_async(address, 1, 1, third.cu_stream()) }.unwrap();
        other.synchronize().unwrap();
        assert_eq!(gpu.stream.clone_dtoh(&words).unwrap(), [1, 321, 0, 0]);
        assert!(start.elapsed_ms(&end).unwrap() > 0.0);
        assert!(end.elapsed_ms(&start).unwrap() < 0.0);
    }

    fn the_default_stream_and_blocking_streams_wait_for_each_other() {
        let gpu = device();
        // SAFETY: handles are live, memory is large enough.
        unsafe {
            let blocking = result::stream::create(result::stream::StreamKind::Default).unwrap();
            let words = result::malloc_sync(8).unwrap();
            result::memset_d8_sync(words, 0, 8).unwrap();
            let mut args = [(&raw const words).cast_mut().cast::<c_void>()];
            let function = function("wait_for");
            result::launch_kernel(function, (1, 1, 1), (32, 1, 1), 0, blocking, &mut args).unwrap();
            // On the default stream, behind the kernel.
            result::memset_d8_async(words + 4, 9, 4, std::ptr::null_mut()).unwrap();
            assert_eq!(query(std::ptr::null_mut()), CUresult::CUDA_ERROR_NOT_READY);
            let free = gpu.stream.cu_stream();
            result::memset_d8_async(words, 1, 1, free).unwrap();
            let mut got = [0u32; 2];
            result::memcpy_dtoh_sync(&mut got, words).unwrap();
            assert_eq!(got, [1, 0x0909_0909]);
            result::stream::destroy(blocking).unwrap();
            assert_eq!(code(result::stream::synchronize(blocking)), CUresult::CUDA_ERROR_INVALID_HANDLE);
        }
    }

    fn host_functions_run_in_order() {
        static SEEN: AtomicU32 = AtomicU32::new(0);
        unsafe extern "C" fn double_and_add(data: *mut c_void) {
            let seen = SEEN.load(Ordering::SeqCst);
            SEEN.store(seen * 2 + data as u32, Ordering::SeqCst);
        }
        let gpu = device();
        for value in [1usize, 2, 3] {
            // SAFETY: the function takes any number.
            let answer = unsafe {
                let data = value as *mut c_void;
                sys::cuLaunchHostFunc(gpu.stream.cu_stream(), Some(double_and_add), data)
            };
            assert_eq!(answer, CUresult::CUDA_SUCCESS);
        }
        gpu.stream.synchronize().unwrap();
        assert_eq!(SEEN.load(Ordering::SeqCst), (2 + 2) * 2 + 3);
    }

    fn wrong_handles_and_flags_are_refused() {
        let gpu = device();
        let stream = gpu.stream.cu_stream();
        let event = result::event::create(CUevent_flags::CU_EVENT_DISABLE_TIMING).unwrap();
        // SAFETY: null and stale handles are refused, not used.
        unsafe {
            let invalid = CUresult::CUDA_ERROR_INVALID_HANDLE;
            assert_eq!(sys::cuEventRecord(0x77 as _, stream), invalid);
            assert_eq!(sys::cuEventRecord(event, 0x77 as _), invalid);
            assert_eq!(sys::cuStreamWaitEvent(stream, std::ptr::null_mut(), 0), invalid);
            result::event::record(event, stream).unwrap();
            let mut time = 0.0;
            assert_eq!(sys::cuEventElapsedTime_v2(&mut time, event, event), invalid);
            result::event::destroy(event).unwrap();
            assert_eq!(sys::cuEventQuery(event), invalid);
            let mut made = std::ptr::null_mut();
            let value = CUresult::CUDA_ERROR_INVALID_VALUE;
            assert_eq!(sys::cuStreamCreate(&mut made, 6), value);
            assert_eq!(sys::cuStreamCreate(std::ptr::null_mut(), 0), value);
            assert_eq!(sys::cuEventCreate(&mut made as *mut _ as *mut _, 64), value);
            assert_eq!(sys::cuLaunchHostFunc(stream, None, std::ptr::null_mut()), value);
        }
    }
}

#[test]
fn what_kernels_print_appears_when_they_are_waited_for() {
    let path = concat!(module_path!(), "::what_kernels_print_appears_when_they_are_waited_for");
    let output = in_child(path, &[], || {
        let gpu = device();
        let speak = gpu.kernel("speak");
        let config = cudarc::driver::LaunchConfig {
            grid_dim: (2, 1, 1),
            block_dim: (1, 1, 1),
            shared_mem_bytes: 0,
        };
        // SAFETY: the kernel takes nothing.
        unsafe { gpu.stream.launch_builder(&speak).launch(config) }.unwrap();
        gpu.stream.synchronize().unwrap();
        println!("waited");
    });
    if let Some(output) = output {
        assert!(output.contains("block 0\nblock 1\nwaited"), "{output}");
    }
}

fn query(stream: sys::CUstream) -> CUresult {
    // SAFETY: a stream's handle, or null.
    unsafe { sys::cuStreamQuery(stream) }
}
