//! The virtual GPU: runs PTX kernels on the processor and reports their faults.

pub mod ptx;
