//! Memory and addresses apart.

use std::ffi::c_void;

use cudarc::driver::result;
use cudarc::driver::sys::{self, CUmemAllocationHandleType as Kind, CUresult};

use crate::child::on_vgpu;
use crate::device::{code, device};

const OK: CUresult = CUresult::CUDA_SUCCESS;
const INVALID: CUresult = CUresult::CUDA_ERROR_INVALID_VALUE;
const MIB2: usize = 2 << 20;

fn location(device: i32) -> sys::CUmemLocation {
    sys::CUmemLocation { type_: sys::CUmemLocationType::CU_MEM_LOCATION_TYPE_DEVICE, id: device }
}

fn prop(device: i32, kind: Kind) -> sys::CUmemAllocationProp {
    sys::CUmemAllocationProp {
        type_: sys::CUmemAllocationType::CU_MEM_ALLOCATION_TYPE_PINNED,
        requestedHandleTypes: kind,
        location: location(device),
        win32HandleMetaData: std::ptr::null_mut(),
        allocFlags: sys::CUmemAllocationProp_st__bindgen_ty_1 {
            compressionType: 0,
            gpuDirectRDMACapable: 0,
            usage: 0,
            reserved: [0; 4],
        },
    }
}

fn create(size: usize, kind: Kind) -> Result<u64, CUresult> {
    create_on(0, size, kind)
}

/// Physical memory of a device.
pub fn create_on(device: i32, size: usize, kind: Kind) -> Result<u64, CUresult> {
    let (mut handle, prop) = (0, prop(device, kind));
    // SAFETY: live structures.
    match unsafe { sys::cuMemCreate(&mut handle, size, &prop, 0) } {
        OK => Ok(handle),
        error => Err(error),
    }
}

/// Addresses without memory.
pub fn reserve(size: usize) -> u64 {
    let mut start = 0;
    // SAFETY: a live pointer.
    assert_eq!(unsafe { sys::cuMemAddressReserve(&mut start, size, 0, 0, 0) }, OK);
    start
}

/// Lets a range be used, or not.
pub fn set_access(start: u64, size: usize, flags: sys::CUmemAccess_flags) -> CUresult {
    let desc = sys::CUmemAccessDesc { location: location(0), flags };
    // SAFETY: a live structure.
    unsafe { sys::cuMemSetAccess(start, size, &desc, 1) }
}

pub const READ_WRITE: sys::CUmemAccess_flags =
    sys::CUmemAccess_flags::CU_MEM_ACCESS_FLAGS_PROT_READWRITE;
const NONE: sys::CUmemAccess_flags = sys::CUmemAccess_flags::CU_MEM_ACCESS_FLAGS_PROT_NONE;

on_vgpu! {
    fn pieces_are_mapped_side_by_side() {
        let gpu = device();
        let kind = Kind::CU_MEM_HANDLE_TYPE_NONE;
        assert_eq!(create(MIB2 + 1, kind), Err(INVALID));
        let (first, second) = (create(MIB2, kind).unwrap(), create(MIB2, kind).unwrap());
        let start = reserve(2 * MIB2);
        let middle = start + MIB2 as u64;
        // SAFETY: live handles; wrong ranges are refused.
        unsafe {
            assert_eq!(sys::cuMemMap(start, MIB2, 0, first, 0), OK);
            assert_eq!(sys::cuMemMap(start, MIB2, 0, second, 0), INVALID, "mapped");
            assert_eq!(sys::cuMemMap(middle, MIB2, 0, second, 0), OK);
            let used = code(result::memset_d8_sync(start, 1, 4));
            assert_eq!(used, INVALID, "nobody has access yet");
            assert_eq!(set_access(start, 2 * MIB2 + 1, READ_WRITE), INVALID);
            assert_eq!(set_access(start, 2 * MIB2, READ_WRITE), OK);
            // Fills and copies go across the border.
            result::memset_d8_sync(middle - 4, 3, 8).unwrap();
            let mut bytes = [0u8; 16];
            result::memcpy_dtoh_sync(&mut bytes, middle - 8).unwrap();
            assert_eq!(bytes, [0, 0, 0, 0, 3, 3, 3, 3, 3, 3, 3, 3, 0, 0, 0, 0]);
            gpu.launch(&gpu.stream, "add", middle + 8, &1u32);
            gpu.stream.synchronize().unwrap();
            // A handle may go before the mapping.
            assert_eq!(sys::cuMemRelease(second), OK);
            assert_eq!(sys::cuMemRelease(second), CUresult::CUDA_ERROR_INVALID_HANDLE);
            let mut again = 0;
            assert_eq!(sys::cuMemRetainAllocationHandle(&mut again, middle as *mut c_void), OK);
            assert_eq!(sys::cuMemUnmap(middle, MIB2), OK);
            assert_eq!(sys::cuMemUnmap(middle, MIB2), INVALID);
            // The same memory at another place.
            assert_eq!(sys::cuMemAddressFree(start, 2 * MIB2), INVALID, "something is mapped");
            assert_eq!(set_access(start, MIB2, NONE), OK);
            assert_eq!(sys::cuMemUnmap(start, MIB2), OK);
            assert_eq!(sys::cuMemMap(start, MIB2, 0, again, 0), OK);
            assert_eq!(set_access(start, MIB2, READ_WRITE), OK);
            let mut words = [0u32; 3];
            result::memcpy_dtoh_sync(&mut words, start).unwrap();
            assert_eq!(words, [0x0303_0303, 0, 32]);
        }
    }

    fn memory_is_exported_as_a_file_and_as_a_fabric_handle() {
        let _gpu = device();
        let both = create(MIB2, Kind::CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR).unwrap();
        let fabric = create(MIB2, Kind::CU_MEM_HANDLE_TYPE_FABRIC).unwrap();
        // SAFETY: live handles and room for the answers.
        unsafe {
            let mut file = -1i32;
            let kind = Kind::CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR;
            let shareable = (&raw mut file).cast();
            assert_eq!(sys::cuMemExportToShareableHandle(shareable, fabric, kind, 0), INVALID);
            assert_eq!(sys::cuMemExportToShareableHandle(shareable, both, kind, 0), OK);
            let mut from_file = 0;
            let number = file as usize as *mut c_void;
            assert_eq!(sys::cuMemImportFromShareableHandle(&mut from_file, number, kind), OK);
            close(file);
            let mut bytes = [0u8; 64];
            let kind = Kind::CU_MEM_HANDLE_TYPE_FABRIC;
            let shareable = bytes.as_mut_ptr().cast();
            assert_eq!(sys::cuMemExportToShareableHandle(shareable, fabric, kind, 0), OK);
            let mut from_fabric = 0;
            assert_eq!(sys::cuMemImportFromShareableHandle(&mut from_fabric, shareable, kind), OK);
            for (own, imported) in [(both, from_file), (fabric, from_fabric)] {
                let (here, there) = (reserve(MIB2), reserve(MIB2));
                assert_eq!(sys::cuMemMap(here, MIB2, 0, own, 0), OK);
                assert_eq!(sys::cuMemMap(there, MIB2, 0, imported, 0), OK);
                assert_eq!(set_access(here, MIB2, READ_WRITE), OK);
                assert_eq!(set_access(there, MIB2, READ_WRITE), OK);
                result::memset_d8_sync(here + 100, 9, 2).unwrap();
                let mut seen = [0u8; 3];
                result::memcpy_dtoh_sync(&mut seen, there + 100).unwrap();
                assert_eq!(seen, [9, 9, 0]);
            }
            bytes[0] = 0;
            let shareable = bytes.as_mut_ptr().cast();
            let wrong = sys::cuMemImportFromShareableHandle(&mut from_fabric, shareable, kind);
            assert_eq!(wrong, INVALID);
        }
    }
}

fn close(file: i32) {
    use std::os::fd::{FromRawFd, OwnedFd};
    // SAFETY: the file was exported to this test, which owns it.
    drop(unsafe { OwnedFd::from_raw_fd(file) });
}
