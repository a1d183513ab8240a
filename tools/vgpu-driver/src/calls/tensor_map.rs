//! Tensor maps.

use std::ffi::{c_uint, c_void};
use std::fmt::Display;

use vgpu::{Swizzle, TENSOR_MAP_BYTES, TensorMap, TensorType};

use crate::entry::{api, get, lacking, put};
use crate::failure::{Failure, Result};

/// Alignment of a `CUtensorMap`.
const ALIGN: usize = 64;

api! {
    /// Describes a tensor in global memory, and the box that one copy moves.
    fn cuTensorMapEncodeTiled(
        map: *mut [u8; TENSOR_MAP_BYTES],
        data_type: c_uint,
        rank: c_uint,
        address: *mut c_void,
        dims: *const u64,
        strides: *const u64,
        box_dims: *const c_uint,
        element_strides: *const c_uint,
        interleave: c_uint,
        swizzle: c_uint,
        l2_promotion: c_uint,
        oob_fill: c_uint,
    ) {
        if map.is_null() || !map.addr().is_multiple_of(ALIGN) {
            let got = format!("{map:p}");
            return Err(Failure::argument("tensorMap", "an address that is a multiple of 64", got));
        }
        if !(1..=5).contains(&rank) {
            return Err(Failure::argument("tensorRank", "1 to 5", rank));
        }
        let known = |arg: &str, value: u32, most: u32| match value <= most {
            true => Ok(()),
            false => Err(Failure::argument(arg, format!("at most {most}"), value)),
        };
        known("interleave", interleave, 2)?;
        known("l2Promotion", l2_promotion, 3)?;
        known("oobFill", oob_fill, 1)?;
        if interleave != 0 {
            return Err(lacking("interleaved tensor maps"));
        }
        let element = named("tensorDataType", data_type, TensorType::from_number(data_type))?;
        let swizzle = named("swizzle", swizzle, Swizzle::from_number(swizzle))?;
        let rank_len = rank as usize;
        // SAFETY: the caller's arrays have `rank` entries, the strides one less.
        let encoded = unsafe {
            TensorMap {
                element,
                rank,
                address: address as u64,
                dims: array("globalDim", dims, rank_len, 1)?,
                strides: array("globalStrides", strides, rank_len - 1, 0)?,
                box_dims: array("boxDim", box_dims, rank_len, 1)?,
                element_strides: array("elementStrides", element_strides, rank_len, 1)?,
                swizzle,
                fill_nan: oob_fill == 1,
            }
        };
        encoded.check().map_err(|it| Failure::argument(it.arg, it.expected, it.got))?;
        // SAFETY: the caller's pointer.
        unsafe { put(map, "tensorMap", encoded.encode()) }?;
    }

    /// Moves a tensor map to another address.
    fn cuTensorMapReplaceAddress(map: *mut [u8; TENSOR_MAP_BYTES], address: *mut c_void) {
        // SAFETY: the caller's pointer.
        let bytes = unsafe { get(map, "tensorMap") }?;
        let none = || Failure::argument("tensorMap", "an encoded map", "other bytes");
        let decoded = TensorMap::decode(&bytes).ok_or_else(none)?;
        let moved = TensorMap { address: address as u64, ..decoded };
        moved.check().map_err(|it| Failure::argument(it.arg, it.expected, it.got))?;
        // SAFETY: the caller's pointer.
        unsafe { put(map, "tensorMap", moved.encode()) }?;
    }
}

fn named<T>(arg: &str, number: impl Display, value: Option<T>) -> Result<T> {
    value.ok_or_else(|| Failure::argument(arg, "a number of the driver's", number))
}

/// The first entries of an array of the caller, and `rest` behind them.
///
/// # Safety
///
/// The pointer is null or at `count` values.
unsafe fn array<T: Copy, const N: usize>(
    arg: &str,
    values: *const T,
    count: usize,
    rest: T,
) -> Result<[T; N]> {
    let mut array = [rest; N];
    if values.is_null() && count > 0 {
        return Err(Failure::argument(arg, "an array", "null"));
    }
    for (index, value) in array.iter_mut().take(count).enumerate() {
        // SAFETY: the caller's.
        *value = unsafe { *values.add(index) };
    }
    Ok(array)
}
