//! Managed memory.

use std::ffi::c_void;

use cudarc::driver::result;
use cudarc::driver::sys::{self, CUpointer_attribute, CUresult};

use crate::child::on_vgpu;
use crate::device::{code, device};

const OK: CUresult = CUresult::CUDA_SUCCESS;
const INVALID: CUresult = CUresult::CUDA_ERROR_INVALID_VALUE;

fn alloc(bytes: usize, flags: u32) -> Result<u64, CUresult> {
    let mut address = 0;
    // SAFETY: a live pointer.
    match unsafe { sys::cuMemAllocManaged(&mut address, bytes, flags) } {
        OK => Ok(address),
        error => Err(error),
    }
}

on_vgpu! {
    fn host_and_device_share_an_address() {
        let gpu = device();
        assert_eq!(alloc(64, 0), Err(INVALID));
        assert_eq!(alloc(0, 1), Err(INVALID));
        let address = alloc(64, 1).unwrap();
        let word = address as *mut u32;
        // SAFETY: managed memory of 64 bytes, which no kernel uses meanwhile.
        unsafe {
            word.write(5);
            gpu.launch(&gpu.stream, "add", address, &1u32);
            gpu.stream.synchronize().unwrap();
            assert_eq!(word.read(), 37);
            let mut is_managed = 0u32;
            let attribute = CUpointer_attribute::CU_POINTER_ATTRIBUTE_IS_MANAGED;
            let data = (&raw mut is_managed).cast::<c_void>();
            assert_eq!(sys::cuPointerGetAttribute(data, attribute, address), OK);
            assert_eq!(is_managed, 1);
            let location = sys::CUmemLocation {
                type_: sys::CUmemLocationType::CU_MEM_LOCATION_TYPE_DEVICE,
                id: 1,
            };
            let stream = gpu.stream.cu_stream();
            assert_eq!(sys::cuMemPrefetchAsync_v2(address, 64, location, 0, stream), OK);
            assert_eq!(sys::cuMemPrefetchAsync_v2(address, 65, location, 0, stream), INVALID);
            let advice = sys::CUmem_advise::CU_MEM_ADVISE_SET_READ_MOSTLY;
            assert_eq!(sys::cuMemAdvise_v2(address, 64, advice, location), OK);
            let device_memory = result::malloc_sync(64).unwrap();
            assert_eq!(sys::cuMemAdvise_v2(device_memory, 64, advice, location), INVALID);
            assert_eq!(sys::cuMemFreeHost(address as *mut c_void), INVALID, "another kind");
            assert_eq!(sys::cuMemFree_v2(address), OK);
            assert_eq!(code(result::memset_d8_sync(address, 0, 4)), INVALID, "it is gone");
        }
    }
}
