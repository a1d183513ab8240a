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
