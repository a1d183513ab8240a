//! Elements of the tensor cores' types as FP32 numbers.

use crate::program::matrix::Element;

/// Appends the numbers that bytes stand for.
#[inline(always)]
pub(super) fn decode_in(element: Element, bytes: &[u8], negate: bool, out: &mut Vec<f32>) {
    out.clear();
    match element {
        Element::F16 => out.extend(pairs(bytes).map(f16)),
        Element::Bf16 => out.extend(pairs(bytes).map(|x| f32::from_bits(u32::from(x) << 16))),
        Element::Tf32 => {
            // The 13 lowest bits are not looked at.
            let word = |x: &[u8; 4]| f32::from_bits(u32::from_le_bytes(*x) & !0x1fff);
            out.extend(bytes.as_chunks::<4>().0.iter().map(word));
        }
        Element::E4m3 => out.extend(bytes.iter().map(|x| e4m3(*x))),
        Element::E5m2 => out.extend(bytes.iter().map(|x| f16(u16::from(*x) << 8))),
        Element::S8 => out.extend(bytes.iter().map(|x| f32::from(*x as i8))),
        Element::U8 => out.extend(bytes.iter().map(|x| f32::from(*x))),
    }
    if negate {
        out.iter_mut().for_each(|x| *x = -*x);
    }
}

fn pairs(bytes: &[u8]) -> impl Iterator<Item = u16> + '_ {
    bytes.as_chunks::<2>().0.iter().map(|x| u16::from_le_bytes(*x))
}

/// Without branches, so that the loop over the bytes is a vector operation.
#[inline(always)]
fn e4m3(code: u8) -> f32 {
    let magnitude = u32::from(code & 0x7f);
    let normal = (magnitude << 20) + (120 << 23);
    // Below 8, the code counts units of 2^-9.
    let small = (magnitude as i32 as f32 * (1.0 / 512.0)).to_bits();
    let finite = if magnitude < 8 { small } else { normal };
    let value = if magnitude == 0x7f { 0x7fff_ffff } else { finite };
    f32::from_bits(value | u32::from(code & 0x80) << 24)
}

/// FP16, of which E5M2 is the upper half; without branches too.
#[inline(always)]
fn f16(bits: u16) -> f32 {
    let magnitude = u32::from(bits & 0x7fff);
    let normal = (magnitude << 13) + (112 << 23);
    let small = (magnitude as i32 as f32 * (1.0 / 16_777_216.0)).to_bits();
    let finite = if magnitude < 0x400 { small } else { normal };
    let value = if magnitude >= 0x7c00 { magnitude << 13 | 0x7f80_0000 } else { finite };
    f32::from_bits(value | u32::from(bits & 0x8000) << 16)
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
