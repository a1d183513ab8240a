//! Device memory that other processes map: physical memory, exported by a handle, at an address of its
//! own in each process.

use std::ffi::c_void;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::Arc;

use cudarc::driver::DriverError;
use cudarc::driver::sys::{self, CUdevice_attribute, CUmemAllocationHandleType, CUresult};

use super::{Context, call, is, reason};
use crate::backend::Buffer;
use crate::error::{Error, Result};

const OP: &str = "shared memory";
/// Bytes of a fabric handle.
const FABRIC_BYTES: usize = 64;

/// How memory is named to other processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HandleKind {
    /// An open file, for processes of the same machine.
    File,
    /// 64 bytes, for all that the fabric joins.
    Fabric,
}

impl HandleKind {
    const ALL: [Self; 2] = [Self::File, Self::Fabric];

    fn attribute(self) -> CUdevice_attribute {
        match self {
            Self::File => {
                CUdevice_attribute::CU_DEVICE_ATTRIBUTE_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR_SUPPORTED
            }
            Self::Fabric => CUdevice_attribute::CU_DEVICE_ATTRIBUTE_HANDLE_TYPE_FABRIC_SUPPORTED,
        }
    }

    fn number(self) -> CUmemAllocationHandleType {
        match self {
            Self::File => CUmemAllocationHandleType::CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR,
            Self::Fabric => CUmemAllocationHandleType::CU_MEM_HANDLE_TYPE_FABRIC,
        }
    }
}

/// A name of device memory, which another process imports.
#[derive(Debug)]
pub enum MemoryHandle {
    /// An open file. It goes to the other process through a Unix socket, or by inheritance.
    File(OwnedFd),
    /// Bytes that can be sent by any way.
    Fabric([u8; FABRIC_BYTES]),
}

/// Device memory that other processes can map; zeroed when it is made.
#[derive(Debug)]
pub struct SharedBuffer {
    context: Arc<Context>,
    physical: sys::CUmemGenericAllocationHandle,
    kind: HandleKind,
    address: sys::CUdeviceptr,
    num_bytes: usize,
    /// What is mapped: a multiple of the device's granularity.
    mapped_bytes: usize,
}

/// The kinds that a device reports.
pub(in super::super) fn handle_kinds(context: &Context) -> Result<Vec<HandleKind>> {
    let manages = CUdevice_attribute::CU_DEVICE_ATTRIBUTE_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED;
    if context.attribute(manages)? == 0 {
        return Ok(Vec::new());
    }
    let mut kinds = Vec::new();
    for kind in HandleKind::ALL {
        if context.attribute(kind.attribute())? != 0 {
            kinds.push(kind);
        }
    }
    Ok(kinds)
}

/// Why memory could not be made.
fn refusal(error: DriverError, bytes: usize) -> Error {
    if is(&error, CUresult::CUDA_ERROR_OUT_OF_MEMORY) {
        return Error::OutOfMemory { op: OP, arg: "num_bytes", bytes, reason: reason(error) };
    }
    if is(&error, CUresult::CUDA_ERROR_NOT_PERMITTED) {
        // NOTE: devices report fabric handles also where the process has no IMEX channel.
        let reason = format!("this process may not export it: {}", reason(error));
        return Error::Unavailable { op: OP, what: "exported memory", reason };
    }
    Error::Driver { op: OP, call: "cuMemCreate", reason: reason(error) }
}

impl SharedBuffer {
    /// Zeroed memory on the context's device.
    pub(in super::super) fn zeroed(
        context: &Arc<Context>,
        num_bytes: usize,
        kind: HandleKind,
    ) -> Result<Self> {
        if num_bytes == 0 {
            return Err(Error::value(OP, "num_bytes", "at least 1", 0));
        }
        if !handle_kinds(context)?.contains(&kind) {
            let reason = format!("the device does not export handles of the kind {kind:?}");
            return Err(Error::Unavailable { op: OP, what: "exported memory", reason });
        }
        context.bind()?;
        let prop = properties(context, kind);
        let mapped_bytes = num_bytes.next_multiple_of(granularity(&prop)?);
        let mut physical = 0;
        // SAFETY: live structures.
        let answer = unsafe { sys::cuMemCreate(&mut physical, mapped_bytes, &prop, 0) }.result();
        answer.map_err(|error| refusal(error, mapped_bytes))?;
        let buffer = Self::map(context, physical, kind, num_bytes, mapped_bytes)?;
        // SAFETY: the memory is mapped, and nobody knows of it yet.
        let answer = unsafe { sys::cuMemsetD8_v2(buffer.address, 0, mapped_bytes) }.result();
        call(OP, "cuMemsetD8", answer)?;
        context.synchronize(OP)?;
        Ok(buffer)
    }

    /// Memory of another process, or once more of this one; `num_bytes` as it was made with.
    pub(in super::super) fn import(
        context: &Arc<Context>,
        handle: &MemoryHandle,
        num_bytes: usize,
    ) -> Result<Self> {
        if num_bytes == 0 {
            return Err(Error::value(OP, "num_bytes", "at least 1", 0));
        }
        context.bind()?;
        let (kind, mut bytes) = match handle {
            MemoryHandle::File(_) => (HandleKind::File, [0; FABRIC_BYTES]),
            MemoryHandle::Fabric(bytes) => (HandleKind::Fabric, *bytes),
        };
        let shareable = match handle {
            // The number itself stands in the place of the address.
            MemoryHandle::File(file) => file.as_raw_fd() as usize as *mut c_void,
            MemoryHandle::Fabric(_) => bytes.as_mut_ptr().cast(),
        };
        let mut physical = 0;
        // SAFETY: an open file, or 64 bytes.
        let answer =
            unsafe { sys::cuMemImportFromShareableHandle(&mut physical, shareable, kind.number()) };
        call(OP, "cuMemImportFromShareableHandle", answer.result())?;
        let mapped_bytes = num_bytes.next_multiple_of(granularity(&properties(context, kind))?);
        Self::map(context, physical, kind, num_bytes, mapped_bytes)
    }

    /// Gives physical memory an address that the context's device can use. The memory is given back
    /// if that fails.
    fn map(
        context: &Arc<Context>,
        physical: sys::CUmemGenericAllocationHandle,
        kind: HandleKind,
        num_bytes: usize,
        mapped_bytes: usize,
    ) -> Result<Self> {
        // From here on, its drop undoes what was done.
        let mut buffer = Self {
            context: Arc::clone(context),
            physical,
            kind,
            address: 0,
            num_bytes,
            mapped_bytes: 0,
        };
        // SAFETY: live pointers and handles.
        unsafe {
            let answer = sys::cuMemAddressReserve(&mut buffer.address, mapped_bytes, 0, 0, 0);
            call(OP, "cuMemAddressReserve", answer.result())?;
            let answer = sys::cuMemMap(buffer.address, mapped_bytes, 0, physical, 0).result();
            if answer.is_err() {
                // The range is told apart from a mapped one by its length.
                let _ = sys::cuMemAddressFree(buffer.address, mapped_bytes);
            }
            call(OP, "cuMemMap", answer)?;
        }
        buffer.mapped_bytes = mapped_bytes;
        buffer.allow(context)?;
        Ok(buffer)
    }

    /// Lets the device of `context` read and write the memory.
    pub(in super::super) fn allow(&self, context: &Context) -> Result<()> {
        self.context.bind()?;
        let desc = sys::CUmemAccessDesc {
            location: location(context),
            flags: sys::CUmemAccess_flags::CU_MEM_ACCESS_FLAGS_PROT_READWRITE,
        };
        // SAFETY: the whole mapping, and a live structure.
        let answer = unsafe { sys::cuMemSetAccess(self.address, self.mapped_bytes, &desc, 1) };
        call(OP, "cuMemSetAccess", answer.result())
    }

    /// A name for another process, which may use the memory for longer than this one does.
    ///
    /// # Errors
    ///
    /// Those of the driver.
    pub fn export(&self) -> Result<MemoryHandle> {
        self.context.bind()?;
        let (mut file, mut bytes) = (-1, [0u8; FABRIC_BYTES]);
        let shareable: *mut c_void = match self.kind {
            HandleKind::File => (&raw mut file).cast(),
            HandleKind::Fabric => bytes.as_mut_ptr().cast(),
        };
        // SAFETY: the memory is live; there is room for a handle of the kind.
        let answer = unsafe {
            sys::cuMemExportToShareableHandle(shareable, self.physical, self.kind.number(), 0)
        };
        call(OP, "cuMemExportToShareableHandle", answer.result())?;
        Ok(match self.kind {
            // SAFETY: the driver opened the file for us.
            HandleKind::File => MemoryHandle::File(unsafe { OwnedFd::from_raw_fd(file) }),
            HandleKind::Fabric => MemoryHandle::Fabric(bytes),
        })
    }
}

fn location(context: &Context) -> sys::CUmemLocation {
    let type_ = sys::CUmemLocationType::CU_MEM_LOCATION_TYPE_DEVICE;
    sys::CUmemLocation { type_, id: context.device() }
}

fn properties(context: &Context, kind: HandleKind) -> sys::CUmemAllocationProp {
    sys::CUmemAllocationProp {
        type_: sys::CUmemAllocationType::CU_MEM_ALLOCATION_TYPE_PINNED,
        requestedHandleTypes: kind.number(),
        location: location(context),
        win32HandleMetaData: std::ptr::null_mut(),
        allocFlags: sys::CUmemAllocationProp_st__bindgen_ty_1 {
            compressionType: 0,
            gpuDirectRDMACapable: 0,
            usage: 0,
            reserved: [0; 4],
        },
    }
}

/// What sizes are multiples of.
fn granularity(prop: &sys::CUmemAllocationProp) -> Result<usize> {
    let option = sys::CUmemAllocationGranularity_flags::CU_MEM_ALLOC_GRANULARITY_RECOMMENDED;
    let mut granularity = 0;
    // SAFETY: live structures.
    let answer = unsafe { sys::cuMemGetAllocationGranularity(&mut granularity, prop, option) };
    call(OP, "cuMemGetAllocationGranularity", answer.result())?;
    Ok(granularity.max(1))
}

impl Buffer for SharedBuffer {
    fn num_bytes(&self) -> usize {
        self.num_bytes
    }

    fn as_ptr(&self) -> *const u8 {
        self.address as *const u8
    }

    fn as_mut_ptr(&mut self) -> *mut u8 {
        self.address as *mut u8
    }
}

impl Drop for SharedBuffer {
    fn drop(&mut self) {
        // Unmapping does not wait for kernels.
        let is_idle = self.context.synchronize(OP).is_ok();
        if self.mapped_bytes > 0 && is_idle {
            // SAFETY: mapped by `map`, and idle. A failure has nobody to go to.
            unsafe {
                let _ = sys::cuMemUnmap(self.address, self.mapped_bytes);
                let _ = sys::cuMemAddressFree(self.address, self.mapped_bytes);
            }
        }
        // SAFETY: created or imported once; what others have mapped stays.
        let _ = unsafe { sys::cuMemRelease(self.physical) };
    }
}
