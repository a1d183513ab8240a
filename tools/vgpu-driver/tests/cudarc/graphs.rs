//! Captures and graphs.

use cudarc::driver::sys::{self, CUgraphInstantiate_flags, CUresult, CUstreamCaptureMode};
use cudarc::driver::{CudaSlice, result};

use crate::child::on_vgpu;
use crate::device::{Device, code, device};
use crate::memory::address;

fn begin(gpu: &Device) {
    // Waits of the safe layer on events from before the capture would leave it.
    // SAFETY: the tests synchronise by themselves.
    unsafe { gpu.context.disable_event_tracking() };
    let mode = CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
    gpu.stream.begin_capture(mode).unwrap();
}

fn words(gpu: &Device) -> CudaSlice<u32> {
    let words = gpu.stream.alloc_zeros(4).unwrap();
    gpu.stream.synchronize().unwrap();
    words
}

/// An allocation lies at an address.
fn is_there(address: u64) -> bool {
    // SAFETY: nothing is asked for but whether it is there.
    let answer = unsafe { sys::cuMemGetAddressRange_v2(&mut 0, &mut 0, address) };
    answer == CUresult::CUDA_SUCCESS
}

on_vgpu! {
    fn a_captured_graph_is_replayed() {
        let gpu = device();
        let words = words(&gpu);
        begin(&gpu);
        gpu.launch(&gpu.stream, "add", address(&words), &1u32);
        // SAFETY: live memory.
        unsafe { result::memset_d8_async(address(&words) + 4, 5, 4, gpu.stream.cu_stream()) }.unwrap();
        let flags = CUgraphInstantiate_flags::CUDA_GRAPH_INSTANTIATE_FLAG_AUTO_FREE_ON_LAUNCH;
        let graph = gpu.stream.end_capture(flags).unwrap().expect("a graph");
        gpu.stream.synchronize().unwrap();
        assert_eq!(gpu.stream.clone_dtoh(&words).unwrap(), [0; 4], "a capture runs nothing");
        graph.launch().unwrap();
        graph.launch().unwrap();
        gpu.stream.synchronize().unwrap();
        assert_eq!(gpu.stream.clone_dtoh(&words).unwrap(), [64, 0x0505_0505, 0, 0]);
    }

    fn a_graph_allocates_and_frees_its_own_memory() {
        let gpu = device();
        let words = words(&gpu);
        begin(&gpu);
        let stream = gpu.stream.cu_stream();
        // SAFETY: memory that the graph has where it is used.
        unsafe {
            let own = result::malloc_async(stream, 64).unwrap();
            let in_capture = code(result::free_async(address(&words), stream));
            assert_eq!(in_capture, CUresult::CUDA_ERROR_INVALID_VALUE, "not the graph's");
            gpu.launch(&gpu.stream, "add", own, &1u32);
            result::memcpy_dtod_async(address(&words), own, 4, stream).unwrap();
            result::free_async(own, stream).unwrap();
            let kept = result::malloc_async(stream, 64).unwrap();
            gpu.launch(&gpu.stream, "add", kept, &1u32);
            let flags = CUgraphInstantiate_flags::CUDA_GRAPH_INSTANTIATE_FLAG_AUTO_FREE_ON_LAUNCH;
            let graph = gpu.stream.end_capture(flags).unwrap().expect("a graph");
            assert!(!is_there(own), "no memory before a run");
            for _ in 0..2 {
                graph.launch().unwrap();
                gpu.stream.synchronize().unwrap();
                assert_eq!(gpu.stream.clone_dtoh(&words).unwrap()[0], 32, "zeroed in each run");
                let mut word = [0u32];
                result::memcpy_dtoh_sync(&mut word, kept).unwrap();
                assert_eq!(word, [32], "it is not freed with the run");
            }
            assert!(!is_there(own), "freed by the graph");
            result::free_async(kept, stream).unwrap();
            gpu.stream.synchronize().unwrap();
            assert!(!is_there(kept));
        }
    }

    fn a_graph_whose_memory_is_left_does_not_run_again() {
        let gpu = device();
        begin(&gpu);
        // SAFETY: live handles.
        unsafe { result::malloc_async(gpu.stream.cu_stream(), 64) }.unwrap();
        let flags = CUgraphInstantiate_flags::CUDA_GRAPH_INSTANTIATE_FLAG_USE_NODE_PRIORITY;
        let graph = gpu.stream.end_capture(flags).unwrap().expect("a graph");
        graph.launch().unwrap();
        gpu.stream.synchronize().unwrap();
        graph.launch().unwrap();
        assert_eq!(code(gpu.stream.synchronize()), CUresult::CUDA_ERROR_INVALID_VALUE);
        std::mem::forget((graph, gpu));
    }

    fn branches_of_a_graph_run_at_the_same_time() {
        let gpu = device();
        let words = words(&gpu);
        let (flag, other) = (address(&words), gpu.context.new_stream().unwrap());
        begin(&gpu);
        let fork = gpu.stream.record_event(None).unwrap();
        other.wait(&fork).unwrap();
        gpu.launch(&gpu.stream, "wait_for", flag, &0u32);
        // SAFETY: live memory.
        unsafe { result::memset_d8_async(flag, 1, 1, other.cu_stream()) }.unwrap();
        let joined = other.record_event(None).unwrap();
        gpu.stream.wait(&joined).unwrap();
        gpu.launch(&gpu.stream, "add", flag + 4, &1u32);
        let flags = CUgraphInstantiate_flags::CUDA_GRAPH_INSTANTIATE_FLAG_AUTO_FREE_ON_LAUNCH;
        let graph = gpu.stream.end_capture(flags).unwrap().expect("a graph");
        graph.launch().unwrap();
        gpu.stream.synchronize().unwrap();
        assert_eq!(gpu.stream.clone_dtoh(&words).unwrap(), [1, 33, 0, 0]);
    }

    fn what_cannot_be_captured_ends_the_capture() {
        let gpu = device();
        begin(&gpu);
        // SAFETY: refused.
        let refused = code(unsafe { result::malloc_sync(16) });
        assert_eq!(refused, CUresult::CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
        // SAFETY: a live stream.
        let ended = code(unsafe { result::stream::end_capture(gpu.stream.cu_stream()) });
        assert_eq!(ended, CUresult::CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
        begin(&gpu);
        assert_eq!(code(gpu.stream.synchronize()), CUresult::CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
        // SAFETY: a live stream.
        assert!(unsafe { result::stream::end_capture(gpu.stream.cu_stream()) }.is_err());
        // The stream is a stream again.
        gpu.stream.synchronize().unwrap();
    }

    fn a_branch_must_come_back() {
        let gpu = device();
        let words = words(&gpu);
        let other = gpu.context.new_stream().unwrap();
        begin(&gpu);
        let fork = gpu.stream.record_event(None).unwrap();
        other.wait(&fork).unwrap();
        gpu.launch(&other, "add", address(&words), &1u32);
        // SAFETY: live streams.
        unsafe {
            let unmatched = code(result::stream::end_capture(other.cu_stream()));
            assert_eq!(unmatched, CUresult::CUDA_ERROR_STREAM_CAPTURE_UNMATCHED);
            assert!(result::stream::end_capture(gpu.stream.cu_stream()).is_err());
        }
        begin(&gpu);
        let fork = gpu.stream.record_event(None).unwrap();
        other.wait(&fork).unwrap();
        gpu.launch(&other, "add", address(&words), &1u32);
        // SAFETY: a live stream.
        let ended = code(unsafe { result::stream::end_capture(gpu.stream.cu_stream()) });
        assert_eq!(ended, CUresult::CUDA_ERROR_STREAM_CAPTURE_UNJOINED);
    }

    fn a_capture_does_not_wait_for_the_world_outside() {
        let gpu = device();
        let before = gpu.stream.record_event(None).unwrap();
        begin(&gpu);
        assert_eq!(code(gpu.stream.wait(&before)), CUresult::CUDA_ERROR_STREAM_CAPTURE_ISOLATION);
        // SAFETY: a live stream.
        assert!(unsafe { result::stream::end_capture(gpu.stream.cu_stream()) }.is_err());
        // SAFETY: stale and null handles are refused.
        unsafe {
            let invalid = CUresult::CUDA_ERROR_INVALID_HANDLE;
            assert_eq!(sys::cuGraphLaunch(0x55 as _, gpu.stream.cu_stream()), invalid);
            assert_eq!(sys::cuGraphDestroy(std::ptr::null_mut()), invalid);
            let mut graph = std::ptr::null_mut();
            let ended = sys::cuStreamEndCapture(gpu.stream.cu_stream(), &mut graph);
            assert_eq!(ended, CUresult::CUDA_ERROR_ILLEGAL_STATE);
            let mode = CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_GLOBAL;
            let begun = sys::cuStreamBeginCapture_v2(std::ptr::null_mut(), mode);
            assert_eq!(begun, CUresult::CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
        }
    }
}
