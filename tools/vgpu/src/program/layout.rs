//! Sizes of types, places of variables, initial values of globals.

use crate::ops::Class;
use crate::ptx::ast::{Init, Operand, Variable};

/// Somewhere in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Pointer {
    /// Byte of a global or constant variable.
    Global { variable: usize, offset: i64 },
    /// Shared memory of the CTA.
    Shared(u32),
    /// Dynamic shared memory of the CTA, from its base.
    DynamicShared(u32),
    /// Local memory of the thread.
    Local(u32),
    /// Parameters of the kernel.
    Param(u32),
    /// Parameters of an inlined function: local memory, seen as parameter space.
    InlinedParam(u32),
}

impl Pointer {
    /// The place `bytes` further on.
    pub(crate) fn plus(self, bytes: i64) -> Self {
        let add = |at: u32| at.wrapping_add(bytes as u32);
        match self {
            Pointer::Global { variable, offset } => {
                Pointer::Global { variable, offset: offset.wrapping_add(bytes) }
            }
            Pointer::Shared(at) => Pointer::Shared(add(at)),
            Pointer::DynamicShared(at) => Pointer::DynamicShared(add(at)),
            Pointer::Local(at) => Pointer::Local(add(at)),
            Pointer::Param(at) => Pointer::Param(add(at)),
            Pointer::InlinedParam(at) => Pointer::InlinedParam(add(at)),
        }
    }
}

/// A `.global` or `.const` variable.
#[derive(Clone, Debug)]
pub(crate) struct GlobalVariable {
    pub name: String,
    pub bytes: u64,
    /// Leading bytes; the rest is zero.
    pub init: Vec<u8>,
    /// Eight bytes at an offset that hold the address of another variable plus a number.
    pub addresses: Vec<(u64, usize, i64)>,
}

/// Bytes of a type's element.
pub(super) fn type_bytes(ty: &str) -> Option<u32> {
    Some(match ty {
        "b8" | "u8" | "s8" | "e4m3" | "e5m2" => 1,
        "b16" | "u16" | "s16" | "f16" | "bf16" | "e4m3x2" | "e5m2x2" => 2,
        "b32" | "u32" | "s32" | "f32" | "f16x2" | "bf16x2" | "tf32" | "u16x2" | "s16x2" => 4,
        "b64" | "u64" | "s64" | "f64" | "f32x2" => 8,
        "b128" => 16,
        _ => return None,
    })
}

/// Class of a register of a type.
pub(super) fn type_class(ty: &str) -> Option<Class> {
    if ty == "pred" {
        return Some(Class::Pred);
    }
    Some(match type_bytes(ty)? {
        16 => Class::R128,
        8 => Class::R64,
        _ => Class::R32,
    })
}

/// Bytes and alignment of a variable.
pub(super) fn variable_bytes(variable: &Variable<'_>) -> Option<(u64, u64)> {
    let element = u64::from(type_bytes(variable.ty)?) * u64::from(variable.vector);
    let count = variable.dims.iter().try_fold(1u64, |product, dim| {
        // `[]` takes its extent from the initialiser.
        let extent = match (dim, &variable.init) {
            (Some(extent), _) => *extent,
            (None, Some(Init::List(list))) => list.len() as u64,
            (None, _) => 0,
        };
        product.checked_mul(extent)
    })?;
    let align = u64::from(variable.align.unwrap_or(0)).max(element);
    let is_power = align.is_power_of_two();
    Some((element.checked_mul(count)?, if is_power { align } else { 1 }))
}

/// Bytes, and the addresses among them: where, of which symbol, plus what.
pub(super) type InitialBytes<'a> = (Vec<u8>, Vec<(u64, &'a str, i64)>);

/// The flat initial values of a variable.
pub(super) fn initial_bytes<'a>(variable: &Variable<'a>) -> Option<InitialBytes<'a>> {
    let element = type_bytes(variable.ty)? as usize;
    let mut bytes = Vec::new();
    let mut addresses = Vec::new();
    if let Some(init) = &variable.init {
        flatten(init, element, &mut bytes, &mut addresses)?;
    }
    Some((bytes, addresses))
}

fn flatten<'a>(
    init: &Init<'a>,
    element: usize,
    bytes: &mut Vec<u8>,
    addresses: &mut Vec<(u64, &'a str, i64)>,
) -> Option<()> {
    match init {
        Init::List(list) => {
            list.iter()
                .try_for_each(|part| flatten(part, element, bytes, addresses).ok_or(()))
                .ok()?;
        }
        Init::Address { symbol, offset, .. } => {
            addresses.push((bytes.len() as u64, symbol, *offset));
            bytes.resize(bytes.len() + element, 0);
        }
        Init::Value(value) => {
            let bits = match (value, element) {
                (Operand::F32(bits), 8) => f64::from(f32::from_bits(*bits)).to_bits(),
                (Operand::F32(bits), _) => u64::from(*bits),
                (Operand::F64(bits), 4) => u64::from((f64::from_bits(*bits) as f32).to_bits()),
                (Operand::F64(bits), _) => *bits,
                (other, _) => other.int()?,
            };
            let mut wide = [0; 16];
            wide[..8].copy_from_slice(&bits.to_le_bytes());
            bytes.extend_from_slice(&wide[..element]);
        }
    }
    Some(())
}

/// `at` rounded up to a multiple of `align`, a power of two.
pub(super) fn align_up(at: u32, align: u64) -> u32 {
    at.next_multiple_of(align.clamp(1, 1 << 20) as u32)
}
