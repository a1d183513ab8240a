//! Memory: copies, fills, host memory, pointers, tensor maps.

use std::ffi::c_void;

use cudarc::driver::sys::{self, CUmemorytype, CUpointer_attribute, CUresult};
use cudarc::driver::{CudaSlice, DevicePtr, result};

use crate::child::on_vgpu;
use crate::device::{code, device};

/// Address of a buffer.
pub fn address(words: &CudaSlice<u32>) -> u64 {
    words.device_ptr(words.stream()).0
}

const OK: CUresult = CUresult::CUDA_SUCCESS;
const INVALID: CUresult = CUresult::CUDA_ERROR_INVALID_VALUE;

on_vgpu! {
    fn rows_are_copied_and_filled() {
        let gpu = device();
        // SAFETY: memory is as large as the calls say.
        unsafe {
            let mut pitch = 0;
            let mut start = 0;
            assert_eq!(sys::cuMemAllocPitch_v2(&mut start, &mut pitch, 12, 3, 4), OK);
            assert_eq!(pitch, 512);
            assert_eq!(sys::cuMemsetD2D8_v2(start, pitch, 1, 12, 3), OK);
            assert_eq!(sys::cuMemsetD2D32_v2(start + 4, pitch, 0x0203_0405, 1, 2), OK);
            let mut rows = [0u8; 36];
            let mut copy = sys::CUDA_MEMCPY2D {
                srcXInBytes: 0,
                srcY: 0,
                srcMemoryType: CUmemorytype::CU_MEMORYTYPE_DEVICE,
                srcHost: std::ptr::null(),
                srcDevice: start,
                srcArray: std::ptr::null_mut(),
                srcPitch: pitch,
                dstXInBytes: 0,
                dstY: 0,
                dstMemoryType: CUmemorytype::CU_MEMORYTYPE_HOST,
                dstHost: rows.as_mut_ptr().cast(),
                dstDevice: 0,
                dstArray: std::ptr::null_mut(),
                dstPitch: 12,
                WidthInBytes: 12,
                Height: 3,
            };
            assert_eq!(sys::cuMemcpy2D_v2(&copy), OK);
            let row = [1, 1, 1, 1, 5, 4, 3, 2, 1, 1, 1, 1];
            assert_eq!(rows, [row, row, [1; 12]].concat()[..]);
            copy.dstPitch = 8;
            assert_eq!(sys::cuMemcpy2DAsync_v2(&copy, gpu.stream.cu_stream()), INVALID);
            (copy.dstPitch, copy.Height) = (12, 4);
            assert_eq!(sys::cuMemcpy2D_v2(&copy), INVALID, "a row beyond the allocation");
        }
    }

    fn copies_go_between_devices() {
        let gpu = device();
        let other = cudarc::driver::CudaContext::new(1).unwrap();
        let there = other.new_stream().unwrap().clone_htod(&[1u32, 2, 3]).unwrap();
        let here = gpu.stream.clone_dtod(&there).unwrap();
        assert_eq!(gpu.stream.clone_dtoh(&here).unwrap(), [1, 2, 3]);
    }

    fn host_memory_is_seen_at_its_own_address() {
        let gpu = device();
        // SAFETY: memory is as large as the calls say, and lives as long as it is registered.
        unsafe {
            let pinned = result::malloc_host(64, 2).unwrap();
            let mut seen = 0;
            assert_eq!(sys::cuMemHostGetDevicePointer_v2(&mut seen, pinned, 0), OK);
            assert_eq!(seen, pinned as u64);
            gpu.launch(&gpu.stream, "add", seen, &3u32);
            gpu.stream.synchronize().unwrap();
            assert_eq!(*pinned.cast::<u32>(), 96);
            let mut kind = 0u32;
            let attribute = CUpointer_attribute::CU_POINTER_ATTRIBUTE_MEMORY_TYPE;
            let data = (&raw mut kind).cast();
            assert_eq!(sys::cuPointerGetAttribute(data, attribute, seen), OK);
            assert_eq!(kind, CUmemorytype::CU_MEMORYTYPE_HOST as u32);
            result::free_host(pinned).unwrap();
            assert_eq!(sys::cuMemFreeHost(pinned), INVALID);

            let mut own = vec![5u32; 16];
            let start: *mut c_void = own.as_mut_ptr().cast();
            assert_eq!(sys::cuMemHostRegister_v2(start, 64, 0), OK);
            let again = sys::cuMemHostRegister_v2(start, 64, 0);
            assert_eq!(again, CUresult::CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED);
            gpu.launch(&gpu.stream, "add", start as u64, &1u32);
            gpu.stream.synchronize().unwrap();
            assert_eq!(own[0], 37);
            assert_eq!(sys::cuMemHostUnregister(start), OK);
            let twice = sys::cuMemHostUnregister(start);
            assert_eq!(twice, CUresult::CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED);
        }
    }

    fn pageable_memory_may_change_once_a_copy_is_enqueued() {
        let gpu = device();
        let words = gpu.stream.alloc_zeros::<u32>(4).unwrap();
        gpu.stream.synchronize().unwrap();
        let other = gpu.context.new_stream().unwrap();
        // The copy stands behind a kernel that waits for the host.
        gpu.launch(&gpu.stream, "wait_for", address(&words), &0u32);
        let mut source = [7u32, 8];
        // SAFETY: live memory of this size.
        unsafe {
            let stream = gpu.stream.cu_stream();
            result::memcpy_htod_async(address(&words) + 8, &source, stream).unwrap();
            source.fill(0);
            result::memset_d8_async(address(&words), 1, 1, other.cu_stream()).unwrap();
        }
        assert_eq!(gpu.stream.clone_dtoh(&words).unwrap(), [1, 1, 7, 8]);
        assert_eq!(source, [0, 0]);
    }

    fn addresses_outside_of_allocations_are_refused() {
        let _gpu = device();
        // SAFETY: the calls refuse what they cannot do.
        unsafe {
            let start = result::malloc_sync(100).unwrap();
            let mut bytes = [0u8; 101];
            assert_eq!(code(result::memcpy_dtoh_sync(&mut bytes, start)), INVALID);
            assert_eq!(code(result::memcpy_dtoh_sync(&mut bytes[..100], start)), OK);
            assert_eq!(code(result::memset_d8_sync(start + 1, 0, 100)), INVALID);
            assert_eq!(sys::cuMemsetD32_v2(start + 2, 0, 1), INVALID, "not aligned");
            assert_eq!(sys::cuMemcpyHtoD_v2(start, std::ptr::null(), 4), INVALID);
            assert_eq!(sys::cuMemAlloc_v2(std::ptr::null_mut(), 4), INVALID);
            assert_eq!(code(result::malloc_sync(0)), INVALID);
            let huge = code(result::malloc_sync(1 << 40));
            assert_eq!(huge, CUresult::CUDA_ERROR_OUT_OF_MEMORY);
            let (mut base, mut size) = (0, 0);
            assert_eq!(sys::cuMemGetAddressRange_v2(&mut base, &mut size, start + 99), OK);
            assert_eq!((base, size), (start, 100));
            assert_eq!(sys::cuMemGetAddressRange_v2(&mut base, &mut size, start + 100), INVALID);
            assert_eq!(sys::cuMemFree_v2(start + 4), INVALID);
            assert_eq!(sys::cuMemFree_v2(0), OK);
        }
    }

    fn memory_is_counted() {
        let _gpu = device();
        let (before, total) = result::mem_get_info().unwrap();
        // SAFETY: freed once.
        unsafe {
            let start = result::malloc_sync(1 << 20).unwrap();
            assert_eq!(result::mem_get_info().unwrap(), (before - (1 << 20), total));
            result::free_sync(start).unwrap();
        }
        assert_eq!(result::mem_get_info().unwrap(), (before, total));
    }

    fn tensor_maps_are_checked_and_encoded() {
        let _gpu = device();
        type Type = sys::CUtensorMapDataType;
        let mut map = sys::CUtensorMap { opaque: [0; 16] };
        let mut encode = |rank, address: u64, stride: u64, extent: u32| {
            let (dims, strides) = ([128u64, 64], [stride]);
            let (extents, steps) = ([extent, 8], [1u32, 1]);
            // SAFETY: arrays of two entries, the strides of one.
            unsafe {
                sys::cuTensorMapEncodeTiled(
                    &mut map,
                    Type::CU_TENSOR_MAP_DATA_TYPE_BFLOAT16,
                    rank,
                    address as *mut c_void,
                    dims.as_ptr(),
                    strides.as_ptr(),
                    extents.as_ptr(),
                    steps.as_ptr(),
                    sys::CUtensorMapInterleave::CU_TENSOR_MAP_INTERLEAVE_NONE,
                    sys::CUtensorMapSwizzle::CU_TENSOR_MAP_SWIZZLE_128B,
                    sys::CUtensorMapL2promotion::CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
                    sys::CUtensorMapFloatOOBfill::CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE,
                )
            }
        };
        assert_eq!(encode(2, 0x100, 256, 64), OK);
        assert_eq!(encode(2, 0x108, 256, 64), INVALID, "address");
        assert_eq!(encode(2, 0x100, 250, 64), INVALID, "stride");
        assert_eq!(encode(2, 0x100, 256, 128), INVALID, "box wider than the swizzle");
        assert_eq!(encode(6, 0x100, 256, 64), INVALID, "rank");
        let bytes: [u8; 128] = bytes_of(map.opaque);
        let decoded = vgpu::TensorMap::decode(&bytes).expect("the last good map");
        assert_eq!((decoded.dims[..2].to_vec(), decoded.strides[0]), (vec![128, 64], 256));
    }
}

fn bytes_of(words: [u64; 16]) -> [u8; 128] {
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
    bytes.try_into().expect("16 words")
}
