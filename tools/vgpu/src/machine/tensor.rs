//! Walks tensor maps: tiles between global and shared memory.

use super::cluster::ClusterState;
use super::engine::aligned;
use super::exec::Exec;
use super::grid::View;
use super::transfer::{Signal, Work};
use super::{Trap, lanes_of};
use crate::fault::FaultKind;
use crate::program::engine::{Combine, GroupKind, MapField, TensorOp};
use crate::program::inst::{AtomicOp, Number};
use crate::program::{Inst, SHARED_WINDOW};
use crate::tensor_map::{Swizzle, TENSOR_MAP_BYTES, TensorMap, TensorType};

/// A box at a position of a tensor.
#[derive(Clone, Debug)]
pub(super) struct Tile {
    pub map: TensorMap,
    pub at: [i32; 5],
}

/// Neighbouring elements inside of the tensor.
pub(super) struct Run {
    /// First byte in the box, as it lies without a swizzle.
    pub offset: u32,
    /// Global address.
    pub address: u64,
    pub bytes: u32,
}

impl Tile {
    /// The parts of the box that lie in the tensor, row by row.
    pub(super) fn runs(&self) -> Vec<Run> {
        let map = &self.map;
        let counts = map.box_counts();
        let element = map.element.bytes();
        let rows = counts[1..].iter().product::<u32>();
        let mut runs = Vec::with_capacity(rows as usize);
        for row in 0..rows {
            let mut rest = row;
            let mut address = Some(map.address);
            for (i, count) in counts.iter().enumerate().skip(1) {
                let step = i64::from(rest % count * map.element_strides[i]);
                rest /= count;
                let position = i64::from(self.at[i]) + step;
                let inside = (0..map.dims[i] as i64).contains(&position);
                let moved = |address: u64| {
                    address.wrapping_add(map.strides[i - 1].wrapping_mul(position as u64))
                };
                address = address.filter(|_| inside).map(moved);
            }
            let Some(address) = address else { continue };
            let offset = row * counts[0] * element;
            self.runs_of_row(offset, address, counts[0], element, &mut runs);
        }
        runs
    }

    fn runs_of_row(
        &self,
        offset: u32,
        address: u64,
        count: u32,
        element: u32,
        runs: &mut Vec<Run>,
    ) {
        let (first, end) = (i64::from(self.at[0]), self.map.dims[0] as i64);
        let step = self.map.element_strides[0];
        let place = |x: i64| address + x as u64 * u64::from(element);
        if step == 1 {
            let low = (-first).clamp(0, count.into());
            let high = (end - first).clamp(low, count.into());
            if high > low {
                runs.push(Run {
                    offset: offset + low as u32 * element,
                    address: place(first + low),
                    bytes: (high - low) as u32 * element,
                });
            }
            return;
        }
        for i in 0..count {
            let x = first + i64::from(i * step);
            if (0..end).contains(&x) {
                runs.push(Run { offset: offset + i * element, address: place(x), bytes: element });
            }
        }
    }

    /// Elements outside of the tensor.
    fn filled(&self) -> Vec<u8> {
        let bytes = self.map.box_bytes() as usize;
        let width = self.map.element.bytes() as usize;
        let mut out = vec![if self.map.fill_nan { 0xff } else { 0 }; bytes];
        if self.map.fill_nan {
            // A positive NaN.
            out.iter_mut().skip(width - 1).step_by(width).for_each(|byte| *byte = 0x7f);
        }
        out
    }

    /// Where 16 bytes of the box lie in shared memory.
    pub(super) fn place(&self, target: u32, offset: u32) -> u64 {
        let (rank, inside) = (target & 0xff00_0000, (target & 0x00ff_ffff) + offset);
        SHARED_WINDOW + u64::from(rank | self.map.swizzle.apply(inside))
    }
}

impl ClusterState {
    /// The box's bytes from the tensor.
    pub(super) fn read_tensor(
        &mut self,
        tile: &Tile,
        view: &mut View,
    ) -> Result<Vec<u8>, FaultKind> {
        let mut out = tile.filled();
        for run in tile.runs() {
            let from = self.host(view, run.address, run.bytes.into(), "tensor read")?;
            let into = &mut out[run.offset as usize..][..run.bytes as usize];
            // SAFETY: `host` checked the bounds; `out` is no part of the machine's memory.
            unsafe { into.as_mut_ptr().copy_from_nonoverlapping(from, into.len()) };
        }
        if matches!(tile.map.element, TensorType::F32Ftz | TensorType::Tf32Ftz) {
            for value in out.chunks_exact_mut(4) {
                if value[3] & 0x7f == 0 && value[2] & 0x80 == 0 {
                    value.copy_from_slice(&[0, 0, 0, value[3] & 0x80]);
                }
            }
        }
        Ok(out)
    }

    /// Puts the box's bytes in shared memory, 16 at a time.
    pub(super) fn fill_tile(
        &mut self,
        tile: &Tile,
        target: u32,
        bytes: &[u8],
        view: &mut View,
    ) -> Result<(), FaultKind> {
        for (i, chunk) in bytes.chunks(16).enumerate() {
            self.put(view, tile.place(target, 16 * i as u32), chunk, None)?;
        }
        Ok(())
    }

    /// The box's bytes from shared memory.
    pub(super) fn read_tile(
        &mut self,
        tile: &Tile,
        source: u32,
        view: &mut View,
    ) -> Result<Vec<u8>, FaultKind> {
        let bytes = tile.map.box_bytes();
        let mut out = Vec::with_capacity(bytes as usize);
        for offset in (0..bytes).step_by(16) {
            self.append(view, tile.place(source, offset), 16.min(bytes - offset), &mut out)?;
        }
        Ok(out)
    }

    /// Puts those of the box's bytes that lie in the tensor there.
    pub(super) fn write_tensor(
        &mut self,
        tile: &Tile,
        bytes: &[u8],
        reduction: Option<Combine>,
        view: &mut View,
    ) -> Result<(), FaultKind> {
        for run in tile.runs() {
            let part = &bytes[run.offset as usize..][..run.bytes as usize];
            self.put(view, run.address, part, reduction)?;
        }
        Ok(())
    }
}

impl Exec<'_, '_> {
    pub(super) fn tensor(&mut self, inst: &Inst, op: TensorOp, active: u32) -> Result<(), Trap> {
        if op == TensorOp::CopyMap {
            // All threads of the warp copy the same map.
            let lane = active.trailing_zeros() as usize;
            let bytes = self.map_bytes(self.operand(inst, 1, lane), lane)?;
            return self.set_map_bytes(self.operand(inst, 0, lane), &bytes, lane);
        }
        for lane in lanes_of(active) {
            match op {
                TensorOp::Load { rank, multicast } => {
                    self.tensor_load(inst, rank, multicast, lane)?
                }
                TensorOp::Store { rank, reduce } => self.tensor_store(inst, rank, reduce, lane)?,
                TensorOp::Replace { field, ordinal } => {
                    let address = self.operand(inst, 0, lane);
                    let value = self.operand(inst, 1, lane);
                    let mut map = self.map(address, lane)?;
                    replace(&mut map, field, ordinal.into(), value)
                        .map_err(|message| Trap::misuse(message, lane as u32))?;
                    self.set_map_bytes(address, &map.encode(), lane)?;
                }
                TensorOp::CopyMap => {}
            }
        }
        Ok(())
    }

    fn map_bytes(&mut self, address: u64, lane: usize) -> Result<[u8; TENSOR_MAP_BYTES], Trap> {
        use super::pointers::Kind;
        use crate::program::inst::Space;
        let bytes = TENSOR_MAP_BYTES as u64;
        let at = self.pointer(Space::Generic, address, bytes, Kind::Read, lane)?;
        // SAFETY: `pointer` checked the bounds.
        Ok(unsafe { at.cast::<[u8; TENSOR_MAP_BYTES]>().read_unaligned() })
    }

    fn set_map_bytes(
        &mut self,
        address: u64,
        bytes: &[u8; TENSOR_MAP_BYTES],
        lane: usize,
    ) -> Result<(), Trap> {
        self.cluster
            .put(&mut self.grid.view, address, bytes, None)
            .map_err(|kind| Trap::new(kind, lane as u32))
    }

    fn map(&mut self, address: u64, lane: usize) -> Result<TensorMap, Trap> {
        aligned(address, 64, "tensor map", lane)?;
        let bytes = self.map_bytes(address, lane)?;
        TensorMap::decode(&bytes).ok_or_else(|| {
            Trap::misuse(format!("the bytes at {address:#x} are no tensor map"), lane as u32)
        })
    }

    fn tile(
        &mut self,
        inst: &Inst,
        map: usize,
        coordinates: usize,
        rank: u8,
        lane: usize,
    ) -> Result<Box<Tile>, Trap> {
        let map = self.map(self.operand(inst, map, lane), lane)?;
        map.check().map_err(|error| Trap::misuse(error.to_string(), lane as u32))?;
        if map.rank != u32::from(rank) {
            let message = format!("a copy of {rank} dimensions with a tensor map of {}", map.rank);
            return Err(Trap::misuse(message, lane as u32));
        }
        let mut at = [0; 5];
        for (i, coordinate) in at.iter_mut().take(rank.into()).enumerate() {
            *coordinate = self.warp.registers.r32(self.used(inst, coordinates + i))[lane] as i32;
        }
        Ok(Box::new(Tile { map, at }))
    }

    fn tensor_load(
        &mut self,
        inst: &Inst,
        rank: u8,
        multicast: bool,
        lane: usize,
    ) -> Result<(), Trap> {
        let to = self.shared_address(self.operand(inst, 0, lane), lane)?;
        aligned(to.into(), 128, "tensor copy", lane)?;
        let barrier = self.shared_address(self.operand(inst, 2, lane), lane)?;
        let tile = self.tile(inst, 1, 3, rank, lane)?;
        let bytes = tile.map.box_bytes();
        let (targets, signals) = if multicast {
            let mask = self.warp.registers.r32(self.used(inst, 3 + usize::from(rank)))[lane];
            (self.multicast(mask, to, lane)?, self.multicast_signals(mask, barrier, bytes, lane)?)
        } else {
            (vec![to], vec![Signal::Bytes { barrier, bytes }])
        };
        let mut transfer = self.transfer(Work::Load { tile, targets }, 1 << lane);
        transfer.signals = signals;
        self.submit(transfer)
    }

    fn tensor_store(
        &mut self,
        inst: &Inst,
        rank: u8,
        reduce: Option<AtomicOp>,
        lane: usize,
    ) -> Result<(), Trap> {
        let from = self.shared_address(self.operand(inst, 1, lane), lane)?;
        aligned(from.into(), 128, "tensor copy", lane)?;
        let tile = self.tile(inst, 0, 2, rank, lane)?;
        let combine = reduce.map(|op| Combine {
            op,
            number: number(tile.map.element),
            bytes: tile.map.element.bytes() as u8,
        });
        let mut transfer = self.transfer(Work::Store { tile, from }, 1 << lane);
        transfer.combine = combine;
        transfer.group = Some(GroupKind::Bulk);
        transfer.groups = self.warp.commits[GroupKind::Bulk as usize];
        self.submit(transfer)
    }
}

/// How a reduction reads an element.
fn number(element: TensorType) -> Number {
    match element {
        TensorType::I32 | TensorType::I64 => Number::Signed,
        TensorType::F16 => Number::F16,
        TensorType::Bf16 => Number::Bf16,
        TensorType::F64 => Number::F64,
        TensorType::F32 | TensorType::F32Ftz | TensorType::Tf32 | TensorType::Tf32Ftz => {
            Number::F32
        }
        _ => Number::Unsigned,
    }
}

/// Changes one field of a map, which is checked when it is used.
fn replace(map: &mut TensorMap, field: MapField, i: usize, value: u64) -> Result<(), String> {
    let small = value as u32;
    match field {
        MapField::Address => map.address = value,
        // The instruction counts from zero.
        MapField::Rank => map.rank = small.saturating_add(1),
        MapField::BoxDim => map.box_dims[i] = small,
        MapField::Dim => map.dims[i] = u64::from(small),
        MapField::Stride => {
            *map.strides.get_mut(i).ok_or("a stride of dimension 4, of 0 to 3")? = value;
        }
        MapField::ElementStride => map.element_strides[i] = small,
        MapField::Swizzle => {
            map.swizzle =
                Swizzle::from_number(small).ok_or_else(|| format!("swizzle mode {small}"))?;
        }
        MapField::Fill => map.fill_nan = small == 1,
    }
    Ok(())
}
