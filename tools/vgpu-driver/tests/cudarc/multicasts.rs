//! Multicast objects over two devices.

use cudarc::driver::result;
use cudarc::driver::sys::{self, CUmemAllocationHandleType as Kind, CUresult};

use crate::child::on_vgpu;
use crate::device::{code, device};
use crate::mappings::{READ_WRITE, create_on, reserve, set_access};

const OK: CUresult = CUresult::CUDA_SUCCESS;
const INVALID: CUresult = CUresult::CUDA_ERROR_INVALID_VALUE;
const SIZE: usize = 2 << 20;

fn object(devices: u32, handle_types: u64) -> Result<u64, CUresult> {
    let prop = sys::CUmulticastObjectProp {
        numDevices: devices,
        size: SIZE,
        handleTypes: handle_types,
        flags: 0,
    };
    let mut handle = 0;
    // SAFETY: live structures.
    match unsafe { sys::cuMulticastCreate(&mut handle, &prop) } {
        OK => Ok(handle),
        error => Err(error),
    }
}

on_vgpu! {
    fn instructions_reach_the_memory_of_all_devices() {
        let gpu = device();
        assert_eq!(object(0, 0), Err(INVALID));
        assert_eq!(object(2, 1), Err(CUresult::CUDA_ERROR_NOT_SUPPORTED), "of several processes");
        let object = object(2, 0).unwrap();
        let none = Kind::CU_MEM_HANDLE_TYPE_NONE;
        let memory = [0, 1].map(|device| create_on(device, SIZE, none).unwrap());
        // SAFETY: live handles; wrong ones are refused.
        unsafe {
            let bind = |memory, at, size| sys::cuMulticastBindMem(object, at, memory, 0, size, 0);
            assert_eq!(sys::cuMulticastAddDevice(object, 0), OK);
            assert_eq!(sys::cuMulticastAddDevice(object, 0), INVALID, "twice");
            let early = CUresult::CUDA_ERROR_ILLEGAL_STATE;
            assert_eq!(bind(memory[0], 0, SIZE), early, "a device is missing");
            assert_eq!(sys::cuMulticastAddDevice(object, 1), OK);
            assert_eq!(bind(memory[0], 0, SIZE), OK);
            assert_eq!(bind(memory[0], 0, SIZE), INVALID, "something is bound there");
            assert_eq!(bind(memory[1], 4096, SIZE - 4096), INVALID, "no multiple");
            // The second device's memory by its address.
            let own = [0, 1].map(|_| reserve(SIZE));
            for (start, handle) in own.into_iter().zip(memory) {
                assert_eq!(sys::cuMemMap(start, SIZE, 0, handle, 0), OK);
                assert_eq!(set_access(start, SIZE, READ_WRITE), OK);
            }
            assert_eq!(sys::cuMulticastBindAddr(object, 0, own[1], SIZE, 0), OK);
            let all = reserve(SIZE);
            assert_eq!(sys::cuMemMap(all, SIZE, 0, object, 0), OK);
            assert_eq!(set_access(all, SIZE, READ_WRITE), OK);
            result::memset_d8_sync(own[0], 0, 64).unwrap();
            result::memset_d8_sync(own[1], 0, 64).unwrap();
            result::memset_d8_sync(own[1], 1, 1).unwrap();
            gpu.launch(&gpu.stream, "everywhere", all + 16, &1u32);
            gpu.launch(&gpu.stream, "everywhere", all, &0u32);
            gpu.stream.synchronize().unwrap();
            for (start, first) in own.into_iter().zip([0, 1]) {
                let mut words = [0u32; 6];
                result::memcpy_dtoh_sync(&mut words, start).unwrap();
                // 32 threads add to each device's word; all see the sum of both devices in the end.
                assert_eq!(words, [first, 1, 0, 0, 32, 64]);
            }
            assert_eq!(code(result::memset_d8_sync(all, 0, 4)), INVALID, "for multimem alone");
            assert_eq!(sys::cuMemUnmap(all, SIZE), OK);
            assert_eq!(sys::cuMulticastUnbind(object, 1, 0, SIZE), OK);
            assert_eq!(sys::cuMulticastUnbind(object, 1, 0, SIZE), INVALID);
            assert_eq!(sys::cuMemRelease(object), OK);
            assert_eq!(sys::cuMemRelease(object), CUresult::CUDA_ERROR_INVALID_HANDLE);
        }
    }

    fn memory_that_is_not_bound_on_all_devices_faults() {
        let gpu = device();
        let object = object(2, 0).unwrap();
        let memory = create_on(0, SIZE, Kind::CU_MEM_HANDLE_TYPE_NONE).unwrap();
        // SAFETY: live handles.
        unsafe {
            assert_eq!(sys::cuMulticastAddDevice(object, 0), OK);
            assert_eq!(sys::cuMulticastAddDevice(object, 1), OK);
            assert_eq!(sys::cuMulticastBindMem(object, 0, memory, 0, SIZE, 0), OK);
            let all = reserve(SIZE);
            assert_eq!(sys::cuMemMap(all, SIZE, 0, object, 0), OK);
            assert_eq!(set_access(all, SIZE, READ_WRITE), OK);
            gpu.launch(&gpu.stream, "everywhere", all, &1u32);
        }
        assert_eq!(code(gpu.stream.synchronize()), CUresult::CUDA_ERROR_ILLEGAL_ADDRESS);
        std::mem::forget(gpu);
    }
}
