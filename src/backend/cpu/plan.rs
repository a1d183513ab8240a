//! Plan on the cpu: count per chunk of tokens, prefix sums, then every chunk writes its rows.

use rayon::prelude::*;

use super::scratch::with_scratch;
use super::shared_mut::SharedMut;
use super::{Cpu, CpuStream};
use crate::error::Error;
use crate::moe::plan::{PlanArgs, RowLayout};
use crate::num::align;

const OP: &str = "plan";
/// Below this many slots one chunk is quicker than waking other threads.
const MIN_SLOTS_PER_CHUNK: usize = 16 * 1024;

pub(super) fn plan(stream: &CpuStream, args: PlanArgs<'_, Cpu>) {
    let slots_per_chunk = args
        .topk_idx
        .as_span()
        .len()
        .div_ceil(rayon::current_num_threads())
        .max(MIN_SLOTS_PER_CHUNK);
    let num_chunks = args.topk_idx.as_span().len().div_ceil(slots_per_chunk);
    with_scratch(num_chunks * args.local_experts.len().max(1), |counts| {
        let counts = bytemuck::cast_slice_mut(counts);
        plan_chunks(stream, args, slots_per_chunk, counts);
    });
}

/// `counts` has room for every chunk's local experts.
fn plan_chunks(
    stream: &CpuStream,
    mut args: PlanArgs<'_, Cpu>,
    slots_per_chunk: usize,
    counts: &mut [i32],
) {
    let topk_idx = args.topk_idx.as_span();
    let num_local = args.local_experts.len();
    counts.par_chunks_mut(num_local.max(1)).zip(topk_idx.par_chunks(slots_per_chunk)).for_each(
        |(counts, slots)| {
            counts.fill(0);
            for local in slots.iter().filter_map(|&idx| local_expert(idx, &args.local_experts)) {
                counts[local] += 1;
            }
        },
    );

    // Each chunk's counts become its first positions within the experts.
    let num_recv = args.out.num_recv_tokens_per_expert.as_mut_span();
    num_recv.fill(0);
    for chunk in counts.chunks_mut(num_local.max(1)) {
        for (count, total) in chunk.iter_mut().zip(num_recv.iter_mut()) {
            *total += std::mem::replace(count, *total);
        }
    }

    if let Some(load) = &mut args.out.expert_load {
        for (load, num_recv) in load.as_mut_span().iter_mut().zip(num_recv.iter()) {
            *load = load.saturating_add(*num_recv);
        }
    }

    let [num_rows] = args.out.src_info.shape();
    let needed = write_offsets(&mut args, num_rows);
    report_faults(stream, &args, topk_idx, needed, num_rows);
    write_rows(&mut args, slots_per_chunk, counts);
}

/// Writes the row of each slot, and the slot and expert of each row; `next` has the chunks' next positions.
fn write_rows(args: &mut PlanArgs<'_, Cpu>, slots_per_chunk: usize, next: &mut [i32]) {
    let [num_rows] = args.out.src_info.shape();
    let offsets = &*args.out.expert_offsets.as_mut_span();
    let grouped_layout = args.out.grouped_layout.as_mut_span();
    let src_info = args.out.src_info.as_mut_span();
    grouped_layout.par_iter_mut().with_min_len(MIN_SLOTS_PER_CHUNK).for_each(|row| *row = -1);
    src_info.par_iter_mut().with_min_len(MIN_SLOTS_PER_CHUNK).for_each(|row| *row = -1);
    let (grouped_layout, src_info) = (SharedMut::new(grouped_layout), SharedMut::new(src_info));
    let weights = args.weights.as_mut().map(|weights| {
        let row_weights = weights.row_weights.as_mut_span();
        row_weights.par_iter_mut().with_min_len(MIN_SLOTS_PER_CHUNK).for_each(|row| *row = 0.0);
        (weights.topk_weights.as_span(), SharedMut::new(row_weights))
    });
    let limit = |local: usize| match args.layout {
        RowLayout::Contiguous { .. } => num_rows as i64,
        RowLayout::Masked { max_m } => ((local + 1) * max_m) as i64,
    };
    let first_row = |local: usize| match args.layout {
        RowLayout::Contiguous { .. } => i64::from(offsets[local]),
        RowLayout::Masked { max_m } => (local * max_m) as i64,
    };

    args.out
        .slot_rows
        .as_mut_span()
        .par_chunks_mut(slots_per_chunk)
        .zip(args.topk_idx.as_span().par_chunks(slots_per_chunk))
        .zip(next.par_chunks_mut(args.local_experts.len().max(1)))
        .enumerate()
        .for_each(|(chunk, ((slot_rows, slots), next))| {
            for (i, (&idx, slot_row)) in slots.iter().zip(slot_rows).enumerate() {
                *slot_row = -1;
                let Some(local) = local_expert(idx, &args.local_experts) else { continue };
                // NOTE: 64 bits, because a row that does not fit may lie beyond INT32.
                let row = first_row(local) + i64::from(next[local]);
                next[local] += 1;
                if row < limit(local) {
                    let slot = chunk * slots_per_chunk + i;
                    *slot_row = row as i32;
                    // SAFETY: each (expert, position) is taken once, so no two slots share a row,
                    // and `row` is below the row count.
                    unsafe {
                        grouped_layout.write(row as usize, local as i32);
                        src_info.write(row as usize, slot as i32);
                        if let Some((topk_weights, row_weights)) = &weights {
                            row_weights.write(row as usize, topk_weights[slot]);
                        }
                    }
                }
            }
        });
}

fn local_expert(idx: i32, local_experts: &std::ops::Range<usize>) -> Option<usize> {
    let idx = usize::try_from(idx).ok()?;
    local_experts.contains(&idx).then(|| idx - local_experts.start)
}

/// Writes the clipped offsets; returns the rows that would have sufficed.
fn write_offsets(args: &mut PlanArgs<'_, Cpu>, num_rows: usize) -> usize {
    let num_recv = args.out.num_recv_tokens_per_expert.as_mut_span();
    let offsets = args.out.expert_offsets.as_mut_span();
    let mut end = 0;
    let mut most = 0;
    offsets[0] = 0;
    for (local, &num) in num_recv.iter().enumerate() {
        most = most.max(num as usize);
        end = match args.layout {
            RowLayout::Contiguous { expert_alignment } => {
                end + align(num as usize, expert_alignment)
            }
            RowLayout::Masked { max_m } => (local + 1) * max_m,
        };
        offsets[local + 1] = end.min(num_rows) as i32;
    }
    match args.layout {
        RowLayout::Contiguous { .. } => end,
        RowLayout::Masked { .. } => most,
    }
}

fn report_faults(
    stream: &CpuStream,
    args: &PlanArgs<'_, Cpu>,
    topk_idx: &[i32],
    needed: usize,
    num_rows: usize,
) {
    let (arg, capacity) = match args.layout {
        RowLayout::Contiguous { .. } => ("num_max_recv_rows", num_rows),
        RowLayout::Masked { max_m } => ("max_m", max_m),
    };
    if needed > capacity {
        stream.report(Error::Capacity { op: OP, arg, needed, capacity, unit: "rows" });
    }
    let num_experts = args.num_experts as i64;
    if let Some(&bad) = topk_idx.iter().find(|&&idx| !(-1..num_experts).contains(&idx.into())) {
        stream.report(Error::value(OP, "topk_idx", format!("-1 to {}", num_experts - 1), bad));
    }
}
