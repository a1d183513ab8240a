//! Elements of the tensor cores' types as FP32 numbers.

use crate::program::matrix::Element;

/// The numbers that bytes stand for.
#[inline(always)]
pub(super) fn decode_in(element: Element, bytes: &[u8], negate: bool, out: &mut Vec<f32>) {
    out.resize(bytes.len() / element.bytes(), 0.0);
    match element {
        Element::F16 => each(bytes, out, |x| f16(u16::from_le_bytes(x))),
        Element::Bf16 => {
            each(bytes, out, |x| f32::from_bits(u32::from(u16::from_le_bytes(x)) << 16));
        }
        // The 13 lowest bits are not looked at.
        Element::Tf32 => each(bytes, out, |x| f32::from_bits(u32::from_le_bytes(x) & !0x1fff)),
        Element::E4m3 => each(bytes, out, |[x]| e4m3(x)),
        Element::E5m2 => each(bytes, out, |[x]| f16(u16::from(x) << 8)),
        Element::S8 => each(bytes, out, |[x]| f32::from(x as i8)),
        Element::U8 => each(bytes, out, |[x]| f32::from(x)),
    }
    if negate {
        out.iter_mut().for_each(|x| *x = -*x);
    }
}

#[inline(always)]
fn each<const N: usize>(bytes: &[u8], out: &mut [f32], number: impl Fn([u8; N]) -> f32) {
    for (x, bytes) in out.iter_mut().zip(bytes.as_chunks::<N>().0) {
        *x = number(*bytes);
    }
}

/// Without branches, so that the loop over the bytes is a vector operation.
#[inline(always)]
pub(super) const fn e4m3(code: u8) -> f32 {
    let magnitude = (code & 0x7f) as u32;
    let normal = (magnitude << 20) + (120 << 23);
    // Below 8, the code counts units of 2^-9.
    let small = (magnitude as i32 as f32 * (1.0 / 512.0)).to_bits();
    let finite = if magnitude < 8 { small } else { normal };
    let value = if magnitude == 0x7f { 0x7fff_ffff } else { finite };
    f32::from_bits(value | (code as u32 & 0x80) << 24)
}

/// FP16, of which E5M2 is the upper half; without branches too.
#[inline(always)]
pub(super) const fn f16(bits: u16) -> f32 {
    let magnitude = (bits & 0x7fff) as u32;
    let normal = (magnitude << 13) + (112 << 23);
    let small = (magnitude as i32 as f32 * (1.0 / 16_777_216.0)).to_bits();
    let finite = if magnitude < 0x400 { small } else { normal };
    let value = if magnitude >= 0x7c00 { magnitude << 13 | 0x7f80_0000 } else { finite };
    f32::from_bits(value | (bits as u32 & 0x8000) << 16)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::fp8::Fp8;

    #[test]
    fn every_code_means_what_the_conversions_say() {
        let same = |got: f32, expected: f32, code: u32| {
            assert!(
                got.to_bits() == expected.to_bits() || got.is_nan() && expected.is_nan(),
                "{code:#x}: {got}, not {expected}"
            );
        };
        for code in 0..=u8::MAX {
            same(e4m3(code), Fp8::E4m3.decode(code), code.into());
            same(f16(u16::from(code) << 8), Fp8::E5m2.decode(code), code.into());
        }
        for code in 0..=u16::MAX {
            same(f16(code), half::f16::from_bits(code).to_f32(), code.into());
        }
    }
}
