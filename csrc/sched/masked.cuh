// Blocks of groups that have a matrix each, of whose rows the first are valid; how many is known on the device alone.
#pragma once

#include "common/fault.cuh"
#include "common/warp.cuh"
#include "sched/block.cuh"

namespace moekit::sched {

template <uint32_t kBlockM, uint32_t kBlockN>
class Masked {
public:
    static constexpr bool kHasRowWeights = true;

    MK_DEVICE explicit Masked(const abi::GemmParams& p)
        : p_(p), grid_(p.cluster_shares), num_n_(common::ceil_div(p.n, kBlockN)), idx_(grid_.cluster_idx) {}

    // 32 groups are counted at once.
    MK_DEVICE bool next() {
        for (; first_group_ < p_.num_groups; first_group_ += 32) {
            const uint32_t rows = num_rows(first_group_ + common::lane_idx());
            const uint32_t num_units = grid_.num_units(common::ceil_div(rows, kBlockM), num_n_);
            const uint32_t end = num_before_ + common::warp_inclusive_sum(num_units);
            const uint32_t reaching = __ballot_sync(common::kFullWarp, idx_ < end);
            if (reaching != 0) {
                const uint32_t lane = __ffs(reaching) - 1;
                const uint32_t first = __shfl_sync(common::kFullWarp, end - num_units, lane);
                block_ = block_of(first_group_ + lane, __shfl_sync(common::kFullWarp, rows, lane), idx_ - first);
                idx_ += grid_.num_clusters;
                return true;
            }
            num_before_ = __shfl_sync(common::kFullWarp, end, 31);
        }
        return false;
    }

    MK_DEVICE Block take() const { return block_; }

    MK_DEVICE bool has_more() const { return false; }

    // Tells the first count that is negative. All lanes of one warp of the grid call.
    static MK_DEVICE void check(const abi::GemmParams& p) {
        for (uint32_t first = 0; first < p.num_groups; first += 32) {
            const uint32_t group = first + common::lane_idx();
            const uint32_t bad = __ballot_sync(common::kFullWarp, group < p.num_groups and p.rows.values[group] < 0);
            if (bad == 0)
                continue;
            if (common::lane_idx() == static_cast<uint32_t>(__ffs(bad) - 1))
                common::tell_fault(p.faults, abi::FaultKind::kMaskedRows, group, p.rows.values[group], group, 0);
            return;
        }
    }

    // There are few of them: all at once.
    static MK_DEVICE uint32_t check_part(const abi::GemmParams& p, uint32_t) {
        check(p);
        return kAllChecked;
    }

private:
    MK_DEVICE uint32_t num_rows(uint32_t group) const {
        return group < p_.num_groups ? min(static_cast<uint32_t>(max(p_.rows.values[group], 0)), p_.m) : 0;
    }

    MK_DEVICE Block block_of(uint32_t group, uint32_t rows, uint32_t unit) const {
        const Position at = grid_.block(unit, common::ceil_div(rows, kBlockM), num_n_, p_.band_width);
        const uint32_t row = at.m * kBlockM;
        return {group, group, row, at.n * kBlockN, row < rows ? min(kBlockM, rows - row) : 0, 0, true};
    }

    const abi::GemmParams& p_;
    ClusterGrid grid_;
    uint32_t num_n_;
    uint32_t idx_;
    uint32_t first_group_ = 0;  // of the 32 that are looked at
    uint32_t num_before_ = 0;   // units of the groups before them
    Block block_;
};

}  // namespace moekit::sched
