//! Logic, shifts and bit fields. Shifts by the width or more give zero, or the sign.

use super::table;

table! {
    "and.pred" => (a: bool, b: bool) -> bool { a & b }
    "or.pred" => (a: bool, b: bool) -> bool { a | b }
    "xor.pred" => (a: bool, b: bool) -> bool { a ^ b }
    "not.pred" => (a: bool) -> bool { !a }
    "and.b16" => (a: u16, b: u16) -> u16 { a & b }
    "and.b32" => (a: u32, b: u32) -> u32 { a & b }
    "and.b64" => (a: u64, b: u64) -> u64 { a & b }
    "or.b16" => (a: u16, b: u16) -> u16 { a | b }
    "or.b32" => (a: u32, b: u32) -> u32 { a | b }
    "or.b64" => (a: u64, b: u64) -> u64 { a | b }
    "xor.b16" => (a: u16, b: u16) -> u16 { a ^ b }
    "xor.b32" => (a: u32, b: u32) -> u32 { a ^ b }
    "xor.b64" => (a: u64, b: u64) -> u64 { a ^ b }
    "not.b16" => (a: u16) -> u16 { !a }
    "not.b32" => (a: u32) -> u32 { !a }
    "not.b64" => (a: u64) -> u64 { !a }
    /// Zero becomes one, all else zero.
    "cnot.b16" => (a: u16) -> u16 { u16::from(a == 0) }
    "cnot.b32" => (a: u32) -> u32 { u32::from(a == 0) }
    "cnot.b64" => (a: u64) -> u64 { u64::from(a == 0) }
    /// Bit `i` is bit `4a + 2b + c` of the table, with the operands' bits `i`.
    "lop3.b32" => (a: u32, b: u32, c: u32, lut: u32) -> u32 {
        let minterm = |i: u32| {
            let pick = |x: u32, bit: u32| if i & bit != 0 { x } else { !x };
            if lut >> i & 1 == 1 { pick(a, 4) & pick(b, 2) & pick(c, 1) } else { 0 }
        };
        minterm(0) | minterm(1) | minterm(2) | minterm(3)
            | minterm(4) | minterm(5) | minterm(6) | minterm(7)
    }

    "shl.b16" => (a: u16, b: u32) -> u16 { if b > 15 { 0 } else { a << b } }
    "shl.b32" => (a: u32, b: u32) -> u32 { if b > 31 { 0 } else { a << b } }
    "shl.b64" => (a: u64, b: u32) -> u64 { if b > 63 { 0 } else { a << b } }
    "shr.b16" | "shr.u16" => (a: u16, b: u32) -> u16 { if b > 15 { 0 } else { a >> b } }
    "shr.b32" | "shr.u32" => (a: u32, b: u32) -> u32 { if b > 31 { 0 } else { a >> b } }
    "shr.b64" | "shr.u64" => (a: u64, b: u32) -> u64 { if b > 63 { 0 } else { a >> b } }
    "shr.s16" => (a: i16, b: u32) -> i16 { a >> b.min(15) }
    "shr.s32" => (a: i32, b: u32) -> i32 { a >> b.min(31) }
    "shr.s64" => (a: i64, b: u32) -> i64 { a >> b.min(63) }
    /// The upper word of `b:a` shifted left; `.clamp` stops at 32, `.wrap` takes the count modulo 32.
    "shf.l.wrap.b32" => (a: u32, b: u32, c: u32) -> u32 { funnel_left(a, b, c & 31) }
    "shf.l.clamp.b32" => (a: u32, b: u32, c: u32) -> u32 { funnel_left(a, b, c.min(32)) }
    /// The lower word of `b:a` shifted right.
    "shf.r.wrap.b32" => (a: u32, b: u32, c: u32) -> u32 { funnel_right(a, b, c & 31) }
    "shf.r.clamp.b32" => (a: u32, b: u32, c: u32) -> u32 { funnel_right(a, b, c.min(32)) }

    "popc.b32" => (a: u32) -> u32 { a.count_ones() }
    "popc.b64" => (a: u64) -> u32 { a.count_ones() }
    "clz.b32" => (a: u32) -> u32 { a.leading_zeros() }
    "clz.b64" => (a: u64) -> u32 { a.leading_zeros() }
    "brev.b32" => (a: u32) -> u32 { a.reverse_bits() }
    "brev.b64" => (a: u64) -> u64 { a.reverse_bits() }
    /// Position of the highest set bit (of the highest bit unlike the sign), all ones if none.
    "bfind.u32" => (a: u32) -> u32 { 31u32.wrapping_sub(a.leading_zeros()) }
    "bfind.u64" => (a: u64) -> u32 { 63u32.wrapping_sub(a.leading_zeros()) }
    "bfind.s32" => (a: i32) -> u32 { 31u32.wrapping_sub((a ^ a >> 31).leading_zeros()) }
    "bfind.s64" => (a: i64) -> u32 { 63u32.wrapping_sub((a ^ a >> 63).leading_zeros()) }
    /// Left shift that brings that bit to the top.
    "bfind.shiftamt.u32" => (a: u32) -> u32 { shift_amount(a.leading_zeros(), 32) }
    "bfind.shiftamt.u64" => (a: u64) -> u32 { shift_amount(a.leading_zeros(), 64) }
    "bfind.shiftamt.s32" => (a: i32) -> u32 { shift_amount((a ^ a >> 31).leading_zeros(), 32) }
    "bfind.shiftamt.s64" => (a: i64) -> u32 { shift_amount((a ^ a >> 63).leading_zeros(), 64) }
    /// The `n`-th set bit counted from `base`, all ones if there is none.
    "fns.b32" => (mask: u32, base: u32, n: i32) -> u32 { nth_set(mask, base, n) }

    /// The `len` bits of `a` from `pos`.
    "bfe.u32" => (a: u32, pos: u32, len: u32) -> u32 {
        extract(u64::from(a), pos, len, 32, false) as u32
    }
    "bfe.s32" => (a: u32, pos: u32, len: u32) -> u32 {
        extract(u64::from(a), pos, len, 32, true) as u32
    }
    "bfe.u64" => (a: u64, pos: u32, len: u32) -> u64 { extract(a, pos, len, 64, false) }
    "bfe.s64" => (a: u64, pos: u32, len: u32) -> u64 { extract(a, pos, len, 64, true) }
    /// `b` with its `len` bits from `pos` replaced by the low bits of `a`.
    "bfi.b32" => (a: u32, b: u32, pos: u32, len: u32) -> u32 {
        let field = field_mask(pos & 255, len & 255) as u32;
        let moved = if pos & 255 > 31 { 0 } else { a << (pos & 255) };
        b & !field | moved & field
    }
    "bfi.b64" => (a: u64, b: u64, pos: u32, len: u32) -> u64 {
        let field = field_mask(pos & 255, len & 255);
        let moved = if pos & 255 > 63 { 0 } else { a << (pos & 255) };
        b & !field | moved & field
    }
    /// `b` ones from bit `a`.
    "bmsk.clamp.b32" => (a: u32, b: u32) -> u32 { field_mask(a.min(32), b.min(32)) as u32 }
    "bmsk.wrap.b32" => (a: u32, b: u32) -> u32 { field_mask(a & 31, b & 31) as u32 }
    "szext.clamp.u32" => (a: u32, b: u32) -> u32 { a & field_mask(0, b.min(32)) as u32 }
    "szext.wrap.u32" => (a: u32, b: u32) -> u32 { a & field_mask(0, b & 31) as u32 }
    "szext.clamp.s32" => (a: u32, b: u32) -> u32 { extract(u64::from(a), 0, b.min(32), 32, true) as u32 }
    "szext.wrap.s32" => (a: u32, b: u32) -> u32 { extract(u64::from(a), 0, b & 31, 32, true) as u32 }

    /// Byte `i` of the result is the byte of `b:a` that nibble `i` of `c` selects; with its top bit
    /// set, that byte's sign, eight times.
    "prmt.b32" => (a: u32, b: u32, c: u32) -> u32 {
        let bytes = u64::from(b) << 32 | u64::from(a);
        let byte = |i: u32| {
            let selector = c >> (4 * i);
            let value = (bytes >> ((selector & 7) * 8)) as u8;
            let sign = if value & 0x80 != 0 { 0xff } else { 0 };
            u32::from(if selector & 8 != 0 { sign } else { value }) << (8 * i)
        };
        byte(0) | byte(1) | byte(2) | byte(3)
    }
    /// Four bytes from `b:a` on, from byte `c` forwards.
    "prmt.b32.f4e" => (a: u32, b: u32, c: u32) -> u32 {
        let bytes = u128::from(u64::from(b) << 32 | u64::from(a));
        ((bytes | bytes << 64) >> ((c & 3) * 8)) as u32
    }
    /// Four bytes, from byte `c` of `b:a` backwards.
    "prmt.b32.b4e" => (a: u32, b: u32, c: u32) -> u32 {
        let bytes = (u64::from(b) << 32 | u64::from(a)).to_le_bytes();
        u32::from_le_bytes([0, 1, 2, 3].map(|i| bytes[(8 + (c & 3) as usize - i) % 8]))
    }
    /// The bytes of `a`, those to the right of byte `c` replaced by it.
    "prmt.b32.ecl" => (a: u32, _b: u32, c: u32) -> u32 {
        u32::from_le_bytes([0, 1, 2, 3].map(|i: u32| a.to_le_bytes()[i.max(c & 3) as usize]))
    }
    /// The bytes of `a`, those to the left of byte `c` replaced by it.
    "prmt.b32.ecr" => (a: u32, _b: u32, c: u32) -> u32 {
        u32::from_le_bytes([0, 1, 2, 3].map(|i: u32| a.to_le_bytes()[i.min(c & 3) as usize]))
    }
    /// Byte `c` of `a`, four times.
    "prmt.b32.rc8" => (a: u32, _b: u32, c: u32) -> u32 { (a >> ((c & 3) * 8) & 0xff) * 0x0101_0101 }
    /// Half `c` of `a`, twice.
    "prmt.b32.rc16" => (a: u32, _b: u32, c: u32) -> u32 { (a >> ((c & 1) * 16) & 0xffff) * 0x1_0001 }
}

#[inline(always)]
fn funnel_left(a: u32, b: u32, count: u32) -> u32 {
    ((u64::from(b) << 32 | u64::from(a)) << count >> 32) as u32
}

#[inline(always)]
fn funnel_right(a: u32, b: u32, count: u32) -> u32 {
    ((u64::from(b) << 32 | u64::from(a)) >> count) as u32
}

#[inline(always)]
fn shift_amount(leading_zeros: u32, width: u32) -> u32 {
    if leading_zeros == width { u32::MAX } else { leading_zeros }
}

/// `len` ones from bit `pos`, cut at 64 bits.
#[inline(always)]
fn field_mask(pos: u32, len: u32) -> u64 {
    let ones = if len > 63 { u64::MAX } else { (1 << len) - 1 };
    if pos > 63 { 0 } else { ones << pos }
}

/// The field, with zeros above it or, if `signed`, its top bit (that of the word, if it is cut).
#[inline(always)]
fn extract(a: u64, pos: u32, len: u32, width: u32, signed: bool) -> u64 {
    let (pos, len) = (pos & 255, len & 255);
    let present = len.min(width.saturating_sub(pos));
    let value = if pos > 63 { 0 } else { a >> pos } & field_mask(0, present);
    let sign_at = (pos + len).min(width).saturating_sub(1);
    let negative = signed && len > 0 && a >> sign_at & 1 == 1;
    if negative { value | !field_mask(0, present) } else { value }
}

#[inline(always)]
fn nth_set(mask: u32, base: u32, n: i32) -> u32 {
    let base = base & 31;
    if n == 0 {
        return if mask >> base & 1 == 1 { base } else { u32::MAX };
    }
    let step = if n > 0 { 1 } else { -1 };
    let (mut at, mut left) = (base as i32, n.unsigned_abs());
    while (0..32).contains(&at) {
        if mask >> at & 1 == 1 {
            left -= 1;
            if left == 0 {
                return at as u32;
            }
        }
        at += step;
    }
    u32::MAX
}
