//! Waits for values in memory, and writes of them.

use cudarc::driver::result;
use cudarc::driver::sys::{self, CUresult};

use crate::child::on_vgpu;
use crate::device::device;

const OK: CUresult = CUresult::CUDA_SUCCESS;
const INVALID: CUresult = CUresult::CUDA_ERROR_INVALID_VALUE;
const EQUAL: u32 = sys::CUstreamWaitValue_flags::CU_STREAM_WAIT_VALUE_EQ as u32;

on_vgpu! {
    fn a_stream_waits_for_another_ones_write() {
        let gpu = device();
        let other = gpu.context.new_stream().unwrap();
        // SAFETY: live handles and memory.
        unsafe {
            let start = result::malloc_sync(64).unwrap();
            result::memset_d8_sync(start, 0, 64).unwrap();
            let (first, second) = (gpu.stream.cu_stream(), other.cu_stream());
            assert_eq!(sys::cuStreamWaitValue32_v2(first, start + 2, 1, EQUAL), INVALID);
            assert_eq!(sys::cuStreamWaitValue32_v2(first, start, 1, 4), INVALID);
            assert_eq!(sys::cuStreamWaitValue32_v2(first, start, 7, EQUAL), OK);
            gpu.launch(&gpu.stream, "add", start + 16, &1u32);
            assert_eq!(sys::cuStreamQuery(first), CUresult::CUDA_ERROR_NOT_READY);
            assert_eq!(sys::cuStreamWriteValue64_v2(second, start + 8, u64::MAX, 0), OK);
            assert_eq!(sys::cuStreamWriteValue32_v2(second, start, 7, 0), OK);
            gpu.stream.synchronize().unwrap();
            let mut words = [0u32; 5];
            result::memcpy_dtoh_sync(&mut words, start).unwrap();
            assert_eq!(words, [7, 0, u32::MAX, u32::MAX, 32]);
        }
    }

    fn a_batch_runs_in_order() {
        let gpu = device();
        // SAFETY: live handles and memory; the structures are of the union's members.
        unsafe {
            let start = result::malloc_sync(64).unwrap();
            result::memset_d8_sync(start, 0, 64).unwrap();
            let mut params: [sys::CUstreamBatchMemOpParams; 2] = std::mem::zeroed();
            let wide = sys::CUstreamBatchMemOpType::CU_STREAM_MEM_OP_WRITE_VALUE_64;
            params[0].writeValue.operation = wide;
            params[0].writeValue.address = start;
            params[0].writeValue.__bindgen_anon_1.value64 = 9;
            let wait = sys::CUstreamBatchMemOpType::CU_STREAM_MEM_OP_WAIT_VALUE_64;
            params[1].waitValue.operation = wait;
            params[1].waitValue.address = start;
            params[1].waitValue.__bindgen_anon_1.value64 = 8;
            let stream = gpu.stream.cu_stream();
            assert_eq!(sys::cuStreamBatchMemOp_v2(stream, 2, params.as_mut_ptr(), 0), OK);
            gpu.stream.synchronize().unwrap();
            let mut value = [0u64];
            result::memcpy_dtoh_sync(&mut value, start).unwrap();
            assert_eq!(value, [9]);
            assert_eq!(sys::cuStreamBatchMemOp_v2(stream, 2, params.as_mut_ptr(), 1), INVALID);
        }
    }
}
