// Runs of rows of one group, or of none, in both forms of the contiguous layout: src/backend/cpu/gemm/segments.rs. What
// breaks a form's rule counts as padding.
#pragma once

#include "abi/gemm.h"
#include "common/fault.cuh"
#include "common/warp.cuh"
#include "sched/block.cuh"

namespace moekit::sched {

struct RowRun {
    uint32_t end;    // the row behind the last
    uint32_t group;  // if there is one
    bool has_group;
};

// Of row `row`; -1 for padding and whatever is no group.
MK_DEVICE int32_t group_of_row(const abi::GemmParams& p, uint32_t row) {
    const int32_t group = p.rows.values[row];
    return group >= 0 and static_cast<uint32_t>(group) < p.num_groups ? group : -1;
}

template <uint32_t kBlockM>
MK_DEVICE RowRun find_run_per_row(const abi::GemmParams& p, uint32_t row, uint32_t end) {
    const int32_t group = group_of_row(p, row);
    uint32_t first_other = end;
#pragma unroll
    for (uint32_t i = (kBlockM + 31) / 32; i-- > 0;) {
        const uint32_t mine = row + 32 * i + common::lane_idx();
        if (mine < end and group_of_row(p, mine) != group)
            first_other = mine;
    }
    first_other = __reduce_min_sync(common::kFullWarp, first_other);
    return {first_other, static_cast<uint32_t>(group), group >= 0};
}

// 32 groups' rows by offsets, a group a lane. Offsets that descend or pass the last row are clipped, and counts that
// are negative or pass the next offset.
struct OffsetsChunk {
    uint32_t first, num_valid, next;  // of this lane's group
    uint32_t group;
    bool has_group;
    bool is_bad = false;
    int32_t bad_value = 0;

    // `done` is where the groups before the chunk end, at most `p.m`; `first_group` a multiple of 32.
    MK_DEVICE OffsetsChunk(const abi::GemmParams& p, uint32_t first_group, uint32_t done) {
        group = first_group + common::lane_idx();
        has_group = group < p.num_groups;
        const int32_t start = has_group ? p.rows.values[group] : 0;
        const int32_t stop = has_group ? p.rows.values[group + 1] : 0;
        const int32_t count = has_group ? p.rows.num_recv_tokens_per_expert[group] : 0;
        next = common::warp_inclusive_max(max(clip(start, 0, p.m), clip(stop, 0, p.m)));
        next = max(next, done);
        const uint32_t before = __shfl_up_sync(common::kFullWarp, next, 1);
        const uint32_t low = common::lane_idx() == 0 ? done : before;
        first = clip(start, low, p.m);
        num_valid = clip(count, 0, next - first);
        note(start, first);
        note(stop, next);
        note(count, num_valid);
    }

private:
    static MK_DEVICE uint32_t clip(int32_t value, uint32_t low, uint32_t high) {
        return min(max(static_cast<uint32_t>(max(value, 0)), low), high);
    }

    // The first of a group's values that had to be clipped.
    MK_DEVICE void note(int32_t value, uint32_t clipped) {
        if (has_group and not is_bad and static_cast<int64_t>(clipped) != value) {
            is_bad = true;
            bad_value = value;
        }
    }
};

MK_DEVICE RowRun find_run_by_offsets(const abi::GemmParams& p, uint32_t row, uint32_t end) {
    uint32_t done = 0;
    for (uint32_t first_group = 0; first_group < p.num_groups; first_group += 32) {
        const OffsetsChunk chunk(p, first_group, done);
        const uint32_t reaching = __ballot_sync(common::kFullWarp, row < chunk.next);
        if (reaching != 0) {
            const uint32_t lane = __ffs(reaching) - 1;
            const uint32_t first = __shfl_sync(common::kFullWarp, chunk.first, lane);
            const uint32_t valid_end = first + __shfl_sync(common::kFullWarp, chunk.num_valid, lane);
            const uint32_t next = __shfl_sync(common::kFullWarp, chunk.next, lane);
            const bool is_before = row < first, is_valid = not is_before and row < valid_end;
            const uint32_t run_end = min(is_before ? first : is_valid ? valid_end : next, end);
            return {run_end, first_group + lane, is_valid};
        }
        done = __shfl_sync(common::kFullWarp, chunk.next, 31);
    }
    return {end, 0, false};
}

// The run that `row` is in, up to `end` at most; row < end <= row + kBlockM. All lanes of a warp call, with the same
// arguments.
template <uint32_t kBlockM>
MK_DEVICE RowRun find_run(const abi::GemmParams& p, uint32_t row, uint32_t end) {
    if (p.rows.kind == abi::RowsKind::kPerRow)
        return find_run_per_row<kBlockM>(p, row, end);
    return find_run_by_offsets(p, row, end);
}

// Looks at rows from `begin` up to `end`; returns where to go on.
MK_DEVICE uint32_t check_runs_per_row(const abi::GemmParams& p, uint32_t begin, uint32_t end) {
    // NOTE: several loads under way at once, for one warp reads all rows.
    constexpr uint32_t kPerLane = 8;
    for (uint32_t first = begin; first < end; first += 32 * kPerLane) {
        int32_t groups[kPerLane];
#pragma unroll
        for (uint32_t i = 0; i < kPerLane; ++i) {
            const uint32_t row = first + 32 * i + common::lane_idx();
            groups[i] = row < end ? p.rows.values[row] : -1;
        }
#pragma unroll
        for (uint32_t i = 0; i < kPerLane; ++i) {
            const int32_t group = groups[i];
            const bool is_bad = group != -1 and (group < 0 or static_cast<uint32_t>(group) >= p.num_groups);
            const uint32_t bad = __ballot_sync(common::kFullWarp, is_bad);
            if (bad == 0)
                continue;
            const uint32_t row = first + 32 * i + __ffs(bad) - 1;
            if (common::lane_idx() == 0)
                common::tell_fault(p.faults, abi::FaultKind::kGroupedLayout, row, p.rows.values[row], row,
                                   p.num_groups);
            return kAllChecked;
        }
    }
    return end == p.m ? kAllChecked : end;
}

MK_DEVICE void check_runs_by_offsets(const abi::GemmParams& p) {
    uint32_t done = 0;
    for (uint32_t first_group = 0; first_group < p.num_groups; first_group += 32) {
        const OffsetsChunk chunk(p, first_group, done);
        const uint32_t bad = __ballot_sync(common::kFullWarp, chunk.is_bad);
        if (bad != 0) {
            if (common::lane_idx() == static_cast<uint32_t>(__ffs(bad) - 1))
                common::tell_fault(p.faults, abi::FaultKind::kGroupedOffsets, chunk.group, chunk.bad_value, chunk.group,
                                   p.m);
            return;
        }
        done = __shfl_sync(common::kFullWarp, chunk.next, 31);
    }
}

// Looks at `num_rows` rows from `begin` on, or at all offsets; returns where to go on.
MK_DEVICE uint32_t check_runs(const abi::GemmParams& p, uint32_t begin, uint32_t num_rows) {
    if (p.rows.kind == abi::RowsKind::kPerRow)
        return check_runs_per_row(p, begin, begin + min(num_rows, p.m - begin));
    check_runs_by_offsets(p);
    return kAllChecked;
}

}  // namespace moekit::sched
