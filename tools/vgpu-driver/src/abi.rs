//! Structures of the driver API, as C lays them out. Enumerations are plain numbers: the caller may
//! pass any.

use std::ffi::c_void;

/// `CUlaunchConfig`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct LaunchConfig {
    /// Blocks.
    pub grid: [u32; 3],
    /// Threads of a block.
    pub block: [u32; 3],
    /// Dynamic shared memory of a block.
    pub shared_bytes: u32,
    /// Stream.
    pub stream: usize,
    /// `num_attributes` attributes.
    pub attributes: *const LaunchAttribute,
    /// How many.
    pub num_attributes: u32,
}

/// `CUlaunchAttribute`; the value is a union whose members start at its first byte.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct LaunchAttribute {
    /// `CUlaunchAttributeID`.
    pub id: u32,
    /// Nothing.
    pub pad: u32,
    /// The value's first bytes.
    pub value: [u32; 16],
}

/// `CUDA_MEMCPY2D`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Memcpy2D {
    /// From where.
    pub src: MemcpySide,
    /// To where.
    pub dst: MemcpySide,
    /// Bytes of a row.
    pub width_in_bytes: usize,
    /// Rows.
    pub height: usize,
}

/// One side of a `CUDA_MEMCPY2D`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct MemcpySide {
    /// First byte in a row.
    pub x_in_bytes: usize,
    /// First row.
    pub y: usize,
    /// `CUmemorytype`.
    pub memory_type: u32,
    /// Host memory.
    pub host: *mut c_void,
    /// Device memory.
    pub device: u64,
    /// An array.
    pub array: usize,
    /// Bytes from a row to the next.
    pub pitch: usize,
}

/// `CUipcMemHandle`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct IpcMemHandle {
    /// The handle's own.
    pub reserved: [u8; 64],
}

/// `CUmemLocation`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct MemLocation {
    /// `CUmemLocationType`.
    pub kind: u32,
    /// Which of them.
    pub id: i32,
}

/// `CUmemAccessDesc`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct MemAccessDesc {
    /// Who.
    pub location: MemLocation,
    /// `CUmemAccess_flags`.
    pub flags: u32,
}

/// `CUmulticastObjectProp`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct MulticastObjectProp {
    /// How many devices.
    pub num_devices: u32,
    /// Bytes.
    pub size: u64,
    /// `CUmemAllocationHandleType`s.
    pub handle_types: u64,
    /// None are known.
    pub flags: u64,
}

/// `CUmemAllocationProp`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct MemAllocationProp {
    /// `CUmemAllocationType`.
    pub kind: u32,
    /// `CUmemAllocationHandleType`s.
    pub handle_types: u32,
    /// Where.
    pub location: MemLocation,
    /// Nothing on Linux.
    pub metadata: u64,
    /// Compression, access by other devices on the bus, usage; nothing here.
    pub flags: u64,
}
