//! Faults in values: what kernels recorded, as the errors that the cpu backend gives.

use super::abi::{FaultKind, FaultRecord, NUM_FAULT_KINDS};
use super::driver::{CudaBuffer, Stream};
use crate::error::{Error, Result};
use crate::moe::quant::GRAN_K;

const NUM_KINDS: usize = NUM_FAULT_KINDS as usize;
/// Kinds in the order of their records, which is the order in which one launch tells them.
const KINDS: [FaultKind; NUM_KINDS] = [
    FaultKind::GateLogits,
    FaultKind::PlanCapacity,
    FaultKind::PlanIndex,
    FaultKind::TransposeOffsets,
    FaultKind::PackScales,
    FaultKind::GroupedLayout,
    FaultKind::GroupedOffsets,
    FaultKind::MaskedRows,
];
/// The order of a record without a fault.
const NO_FAULT: u64 = u64::MAX;

/// A stream's records, in device memory.
#[derive(Debug)]
pub struct Faults {
    buffer: CudaBuffer,
}

impl Faults {
    pub fn new(stream: &Stream) -> Result<Self> {
        let num_bytes = NUM_KINDS * size_of::<FaultRecord>();
        let faults = Self { buffer: CudaBuffer::zeroed(stream.context(), num_bytes)? };
        faults.clear(stream)?;
        Ok(faults)
    }

    pub fn records(&self) -> *mut FaultRecord {
        self.buffer.address() as *mut FaultRecord
    }

    fn clear(&self, stream: &Stream) -> Result<()> {
        self.buffer.fill(stream, 0xff)
    }

    /// Waits for the stream. The first fault, with its launch, which is then forgotten.
    pub fn take(&self, stream: &Stream) -> Result<Option<(u32, Error)>> {
        let mut words = [[0u64; 4]; NUM_KINDS];
        self.buffer.read_behind(stream, bytemuck::cast_slice_mut(&mut words))?;
        let records = words.map(|[order, values @ ..]| FaultRecord {
            order,
            values: values.map(|value| value as i64),
        });
        let first = first_fault(&records);
        if first.is_some() {
            self.clear(stream)?;
        }
        Ok(first)
    }
}

/// The fault of the earliest launch; of one launch, that of the lowest kind.
fn first_fault(records: &[FaultRecord; NUM_KINDS]) -> Option<(u32, Error)> {
    let launch_of = |record: &FaultRecord| record.order >> 32;
    let found = KINDS.into_iter().zip(records).filter(|(_, record)| record.order != NO_FAULT);
    let (kind, record) = found.min_by_key(|(_, record)| launch_of(record))?;
    let position = record.order & u64::from(u32::MAX);
    let [v0, v1, v2] = record.values;
    let error = match kind {
        FaultKind::GateLogits => {
            let (token, arg, cause) = match (position / 2, position % 2) {
                (token, 0) => (token, "logits", ""),
                (token, _) => (token, "scores", ", of an infinite logit or a NaN in the bias"),
            };
            Error::value("gate", arg, "numbers", format!("NaN at token {token}{cause}"))
        }
        FaultKind::PlanCapacity => Error::Capacity {
            op: "plan",
            arg: if v2 == 0 { "num_max_recv_rows" } else { "max_m" },
            needed: v0 as usize,
            capacity: v1 as usize,
            unit: "rows",
        },
        FaultKind::PlanIndex => Error::value("plan", "topk_idx", format!("-1 to {}", v1 - 1), v0),
        FaultKind::TransposeOffsets => {
            let expected = format!("0, then ascending multiples of {GRAN_K} up to {v2}");
            let got = format!("{v0} at index {v1}");
            Error::value("quantize_transpose", "expert_offsets", expected, got)
        }
        FaultKind::PackScales => {
            let (sf, group, row) = (f32::from_bits(v0 as u32), v1 >> 32, v1 as u32);
            let got = format!("{sf} in group {group}, row {row}, block {v2}");
            Error::value("pack_scales", "scales", "powers of two", got)
        }
        FaultKind::GroupedLayout => {
            let (expected, got) = (format!("-1 to {}", v2 - 1), format!("{v0} at row {v1}"));
            Error::value("m_grouped_gemm_nt_contiguous", "grouped_layout", expected, got)
        }
        FaultKind::GroupedOffsets => {
            let expected = format!("ascending offsets within 0..={v2} and counts between them");
            let got = format!("{v0} at group {v1}");
            Error::value("m_grouped_gemm_nt_contiguous", "expert_offsets", expected, got)
        }
        FaultKind::MaskedRows => {
            let got = format!("{v0} for group {v1}");
            Error::value("m_grouped_gemm_nt_masked", "masked_m", "at least 0", got)
        }
    };
    Some((launch_of(record) as u32, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: FaultRecord = FaultRecord { order: NO_FAULT, values: [-1; 3] };

    fn fault(launch_idx: u64, position: u64, values: [i64; 3]) -> FaultRecord {
        FaultRecord { order: launch_idx << 32 | position, values }
    }

    /// What is told where these are the first records, and no fault is in the others.
    fn told(first: &[FaultRecord]) -> String {
        let mut records = [NONE; NUM_KINDS];
        records[..first.len()].copy_from_slice(first);
        first_fault(&records).expect("a fault").1.to_string()
    }

    #[test]
    fn without_a_record_there_is_no_fault() {
        assert!(first_fault(&[NONE; NUM_KINDS]).is_none());
    }

    #[test]
    fn the_earliest_launch_comes_first_and_then_the_lowest_kind() {
        let gate = fault(7, 6, [0; 3]);
        let capacity = fault(4, 0, [6, 3, 0]);
        let index = fault(4, 9, [99, 8, 0]);
        let offsets = fault(5, 2, [100, 2, 256]);
        let scale = fault(6, 0, [i64::from(3.0f32.to_bits()), 1 << 32 | 2, 5]);
        assert_eq!(
            told(&[gate, capacity, index, offsets, scale]),
            "plan: `num_max_recv_rows` holds 3 rows, needs 6"
        );
        assert_eq!(
            told(&[gate, NONE, index, offsets, scale]),
            "plan: `topk_idx` is 99, expected -1 to 7"
        );
        assert_eq!(
            told(&[gate, NONE, NONE, offsets, scale]),
            "quantize_transpose: `expert_offsets` is 100 at index 2, expected 0, then ascending \
             multiples of 128 up to 256"
        );
        assert_eq!(
            told(&[gate, NONE, NONE, NONE, scale]),
            "pack_scales: `scales` is 3 in group 1, row 2, block 5, expected powers of two"
        );
        assert_eq!(told(&[gate]), "gate: `logits` is NaN at token 3, expected numbers");
    }

    #[test]
    fn the_masked_layout_names_its_own_extent() {
        let told = told(&[NONE, fault(0, 0, [3, 2, 1])]);
        assert_eq!(told, "plan: `max_m` holds 2 rows, needs 3");
    }

    #[test]
    fn products_name_the_row_or_the_group() {
        let mut faults = vec![NONE; 5];
        faults.push(fault(0, 3, [9, 3, 4]));
        let layout =
            "m_grouped_gemm_nt_contiguous: `grouped_layout` is 9 at row 3, expected -1 to 3";
        assert_eq!(told(&faults), layout);
        faults[5] = NONE;
        faults.push(fault(0, 1, [-4, 1, 64]));
        let offsets = "m_grouped_gemm_nt_contiguous: `expert_offsets` is -4 at group 1, expected \
            ascending offsets within 0..=64 and counts between them";
        assert_eq!(told(&faults), offsets);
        faults[6] = NONE;
        faults.push(fault(0, 2, [-1, 2, 0]));
        let masked = "m_grouped_gemm_nt_masked: `masked_m` is -1 for group 2, expected at least 0";
        assert_eq!(told(&faults), masked);
    }

    #[test]
    fn kinds_stand_at_their_own_numbers() {
        assert!(KINDS.iter().enumerate().all(|(idx, &kind)| kind as usize == idx));
    }
}
