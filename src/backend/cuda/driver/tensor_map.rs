//! Tensor maps: how TMA sees a tensor.

use std::ffi::c_void;

use cudarc::driver::sys;
use cudarc::driver::sys::{
    CUtensorMapFloatOOBfill, CUtensorMapInterleave, CUtensorMapL2promotion, CUtensorMapSwizzle,
};

use super::call;
use crate::error::{Error, Result};
use crate::tensor::Dtype;

const OP: &str = "tensor map";
/// Dimensions, at most.
const MAX_RANK: usize = 5;

/// How rows of a box are mixed in shared memory, so that columns meet all banks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Swizzle {
    /// In order.
    None,
    /// Within 32 bytes.
    B32,
    /// Within 64 bytes.
    B64,
    /// Within 128 bytes.
    B128,
}

/// What a [`TensorMap`] describes; dimensions from the fastest to the slowest.
#[derive(Debug, Clone, Copy)]
pub struct TensorMapDesc<'a> {
    /// Type of the elements.
    pub dtype: Dtype,
    /// Device address, a multiple of 16 bytes.
    pub address: *const u8,
    /// Extents, 1 to 5 of them.
    pub shape: &'a [usize],
    /// Bytes from one to the next, of every dimension but the first; multiples of 16.
    pub strides_bytes: &'a [usize],
    /// Extents of the box that one load brings.
    pub box_shape: &'a [usize],
    /// Order of the box in shared memory.
    pub swizzle: Swizzle,
}

/// A tensor as TMA sees it; passed to kernels by value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
pub struct TensorMap(sys::CUtensorMap);

impl TensorMap {
    /// Encodes a tiled tensor; elements outside the tensor load as zeros.
    ///
    /// # Errors
    ///
    /// [`Error::Shape`] unless the extents fit each other; [`Error::Value`] if one does not fit its
    /// field; [`Error::Driver`] for what the driver refuses.
    pub fn tiled(desc: &TensorMapDesc<'_>) -> Result<Self> {
        super::open_library()?;
        let rank = desc.shape.len();
        if !(1..=MAX_RANK).contains(&rank) {
            return Err(Error::value(OP, "shape", "1 to 5 extents", format!("{rank}")));
        }
        let shape = |arg, expected: usize, got: &[usize]| match got.len() == expected {
            true => Ok(()),
            false => {
                Err(Error::Shape { op: OP, arg, expected: vec![expected], got: vec![got.len()] })
            }
        };
        shape("strides_bytes", rank - 1, desc.strides_bytes)?;
        shape("box_shape", rank, desc.box_shape)?;
        // NOTE: arrays rather than vectors: maps are encoded at every launch of a product.
        let (mut extents, mut strides) = ([0u64; MAX_RANK], [0u64; MAX_RANK]);
        let mut box_shape = [0u32; MAX_RANK];
        extents.iter_mut().zip(desc.shape).for_each(|(to, &from)| *to = from as u64);
        strides.iter_mut().zip(desc.strides_bytes).for_each(|(to, &from)| *to = from as u64);
        for (to, &from) in box_shape.iter_mut().zip(desc.box_shape) {
            *to = u32::try_from(from)
                .map_err(|_| Error::value(OP, "box_shape", "at most 2^32 - 1", from))?;
        }
        let element_strides = [1u32; MAX_RANK];
        let mut map = Self(sys::CUtensorMap { opaque: [0; 16] });
        // SAFETY: all arrays have at least `rank` entries; the address is not read.
        let answer = unsafe {
            sys::cuTensorMapEncodeTiled(
                &mut map.0,
                data_type(desc.dtype),
                rank as u32,
                desc.address.cast_mut().cast::<c_void>(),
                extents.as_ptr(),
                strides.as_ptr(),
                box_shape.as_ptr(),
                element_strides.as_ptr(),
                CUtensorMapInterleave::CU_TENSOR_MAP_INTERLEAVE_NONE,
                swizzle(desc.swizzle),
                CUtensorMapL2promotion::CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
                CUtensorMapFloatOOBfill::CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE,
            )
        };
        call(OP, "cuTensorMapEncodeTiled", answer.result())?;
        Ok(map)
    }

    /// The driver's encoding.
    pub(in super::super) const fn words(&self) -> [u64; 16] {
        self.0.opaque
    }
}

fn data_type(dtype: Dtype) -> sys::CUtensorMapDataType {
    match dtype {
        Dtype::E4M3 | Dtype::Ue8m0 | Dtype::U8 => {
            sys::CUtensorMapDataType::CU_TENSOR_MAP_DATA_TYPE_UINT8
        }
        Dtype::Bf16 => sys::CUtensorMapDataType::CU_TENSOR_MAP_DATA_TYPE_BFLOAT16,
        Dtype::F32 => sys::CUtensorMapDataType::CU_TENSOR_MAP_DATA_TYPE_FLOAT32,
        Dtype::I32 => sys::CUtensorMapDataType::CU_TENSOR_MAP_DATA_TYPE_INT32,
    }
}

fn swizzle(swizzle: Swizzle) -> CUtensorMapSwizzle {
    match swizzle {
        Swizzle::None => CUtensorMapSwizzle::CU_TENSOR_MAP_SWIZZLE_NONE,
        Swizzle::B32 => CUtensorMapSwizzle::CU_TENSOR_MAP_SWIZZLE_32B,
        Swizzle::B64 => CUtensorMapSwizzle::CU_TENSOR_MAP_SWIZZLE_64B,
        Swizzle::B128 => CUtensorMapSwizzle::CU_TENSOR_MAP_SWIZZLE_128B,
    }
}
