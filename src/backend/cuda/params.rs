//! Arguments of stages as the kernels' structs.

use super::Cuda;
use super::abi::{Bf16, QuantOut, RowsKind, RowsParams, ScaleFormat, StackIn, StackOut};
use crate::error::{Error, Result};
use crate::moe::{Activation, Rows, quant};
use crate::tensor::{Dtype, Element, Layout, QuantMut, TensorMut, TensorRef};

/// Bytes of one vector access.
pub const VECTOR_BYTES: usize = 16;
/// Most CTAs of a grid.
const MAX_CTAS: usize = i32::MAX as usize;

/// An extent as the kernels take it.
///
/// # Errors
///
/// [`Error::Value`] from 2^32 on.
pub fn to_u32(op: &'static str, arg: &'static str, value: usize) -> Result<u32> {
    u32::try_from(value).map_err(|_| Error::value(op, arg, "less than 2^32", value))
}

/// CTAs for `num_units` units of work, `per_cta` each; kernels count units with 32 bits.
///
/// # Errors
///
/// [`Error::Value`] if the units of the last CTA are counted from 2^32 on.
pub fn num_ctas(
    op: &'static str,
    arg: &'static str,
    num_units: usize,
    per_cta: u32,
) -> Result<u32> {
    let num_ctas = num_units.div_ceil(per_cta as usize);
    if num_ctas > MAX_CTAS || to_u32(op, arg, num_ctas * per_cta as usize).is_err() {
        let expected = "less than 2^32 blocks of elements in one launch";
        return Err(Error::value(op, arg, expected, num_units));
    }
    to_u32(op, arg, num_ctas)
}

/// Whether every row of a stack starts at a multiple of 16 bytes.
fn is_aligned(address: usize, element_bytes: usize, layout: Layout<3>) -> bool {
    let ([num_groups, num_rows, _], [group_stride, row_stride, _]) =
        (layout.shape(), layout.strides());
    let multiple = |extent: usize, stride: usize| {
        extent <= 1 || (stride * element_bytes).is_multiple_of(VECTOR_BYTES)
    };
    address.is_multiple_of(VECTOR_BYTES)
        && multiple(num_groups, group_stride)
        && multiple(num_rows, row_stride)
}

pub fn stack_in<T: Element>(x: &TensorRef<'_, Cuda, T, 3>) -> StackIn {
    let data = x.as_ptr();
    let (group_stride, row_stride, is_aligned) = placement(data, x.layout());
    StackIn { data: data.cast(), group_stride, row_stride, is_aligned, reserved: 0 }
}

pub fn stack_out<T: Element>(x: &mut TensorMut<'_, Cuda, T, 3>) -> StackOut {
    let data = x.as_mut_ptr();
    let (group_stride, row_stride, is_aligned) = placement(data, x.layout());
    StackOut { data: data.cast(), group_stride, row_stride, is_aligned, reserved: 0 }
}

/// Strides of groups and rows, and whether rows are aligned.
fn placement<T>(data: *const T, layout: Layout<3>) -> (u64, u64, u32) {
    let [group_stride, row_stride, _] = layout.strides();
    let is_aligned = is_aligned(data as usize, size_of::<T>(), layout);
    (group_stride as u64, row_stride as u64, u32::from(is_aligned))
}

pub fn quant_out(out: &mut QuantMut<'_, Cuda, 3>, format: quant::ScaleFormat) -> QuantOut {
    let [group_stride, row_stride, block_stride] = out.scales.layout().strides();
    QuantOut {
        values: stack_out(&mut out.values),
        scales: out.scales.as_mut_ptr(),
        scales_group_stride: group_stride as u64,
        scales_row_stride: row_stride as u64,
        scales_block_stride: block_stride as u64,
        format: scale_format(format),
        reserved: 0,
    }
}

pub fn scale_format(format: quant::ScaleFormat) -> ScaleFormat {
    match format {
        quant::ScaleFormat::Fp32 => ScaleFormat::Fp32,
        quant::ScaleFormat::Ue8m0 => ScaleFormat::Ue8m0,
    }
}

/// # Errors
///
/// [`Error::Value`] for 2^32 experts.
pub fn rows(op: &'static str, rows: &Rows<'_, Cuda>) -> Result<RowsParams> {
    let none = RowsParams {
        values: std::ptr::null(),
        num_recv_tokens_per_expert: std::ptr::null(),
        kind: RowsKind::All,
        num_experts: 0,
    };
    Ok(match rows {
        Rows::All => none,
        Rows::PerRow(layout) => {
            RowsParams { values: layout.as_ptr(), kind: RowsKind::PerRow, ..none }
        }
        Rows::Masked(masked_m) => {
            RowsParams { values: masked_m.as_ptr(), kind: RowsKind::Masked, ..none }
        }
        Rows::Offsets { expert_offsets, num_recv_tokens_per_expert } => {
            let [num_experts] = num_recv_tokens_per_expert.shape();
            RowsParams {
                values: expert_offsets.as_ptr(),
                num_recv_tokens_per_expert: num_recv_tokens_per_expert.as_ptr(),
                kind: RowsKind::Offsets,
                num_experts: to_u32(op, "num_recv_tokens_per_expert", num_experts)?,
            }
        }
    })
}

/// Part of a kernel's name that tells the type of its elements.
pub fn type_name<T: Activation>() -> &'static str {
    match T::DTYPE {
        Dtype::Bf16 => "bf16",
        _ => "f32",
    }
}

const _: () = assert!(size_of::<Bf16>() == size_of::<crate::num::bf16>());

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_aligned_when_address_and_strides_are() {
        let layout = |strides| Layout::with_strides([2, 3, 16], strides);
        assert!(is_aligned(256, 2, layout([48, 16, 1])));
        assert!(!is_aligned(258, 2, layout([48, 16, 1])));
        assert!(!is_aligned(256, 2, layout([60, 20, 1])));
        assert!(!is_aligned(256, 2, layout([52, 16, 1])));
        assert!(is_aligned(256, 4, layout([60, 20, 1])));
        // A stride that is never taken does not count.
        assert!(is_aligned(256, 2, Layout::with_strides([1, 1, 16], [17, 17, 1])));
    }

    #[test]
    fn a_grid_keeps_its_counts_within_32_bits() {
        assert_eq!(num_ctas("quantize", "x", 0, 32).expect("fits"), 0);
        assert_eq!(num_ctas("quantize", "x", 33, 32).expect("fits"), 2);
        let most = (1 << 32) - 32;
        assert_eq!(num_ctas("quantize", "x", most, 32).expect("fits") as usize, most / 32);
        assert!(num_ctas("quantize", "x", most + 1, 32).is_err());
    }
}
