// Blocks of rows of all groups in one matrix. D is cut into blocks of fixed rows; a block whose rows belong to several
// groups is computed in as many turns, so that groups may start and end anywhere.
#pragma once

#include "common/fault.cuh"
#include "sched/block.cuh"
#include "sched/row_runs.cuh"

namespace moekit::sched {

template <uint32_t kBlockM, uint32_t kBlockN>
class Contiguous {
public:
    static constexpr bool kHasRowWeights = true;

    MK_DEVICE explicit Contiguous(const abi::GemmParams& p)
        : p_(p),
          grid_(p.cluster_shares),
          num_m_(common::ceil_div(p.m, kBlockM)),
          num_n_(common::ceil_div(p.n, kBlockN)),
          idx_(grid_.cluster_idx) {}

    // Goes to the next rows and columns of this CTA; false behind the last.
    MK_DEVICE bool next() {
        if (idx_ >= grid_.num_units(num_m_, num_n_))
            return false;
        const Position at = grid_.block(idx_, num_m_, num_n_, p_.band_width);
        idx_ += grid_.num_clusters;
        row_ = at.m * kBlockM;
        end_ = min(row_ + kBlockM, p_.m);
        column_ = at.n * kBlockN;
        return true;
    }

    // The next turn in them: rows of one group, if the first rows have one, and the padding behind them.
    MK_DEVICE Block take() {
        Block block = {0, 0, row_, column_, 0, 0, false};
        RowRun run = find_run<kBlockM>(p_, row_, end_);
        if (run.has_group) {
            block.group = run.group;
            block.num_rows = run.end - row_;
            block.multiplies = true;
            if (run.end < end_) {
                const RowRun behind = find_run<kBlockM>(p_, run.end, end_);
                if (not behind.has_group)
                    run.end = behind.end;
            }
        }
        block.num_zero_rows = run.end - row_ - block.num_rows;
        row_ = run.end;
        return block;
    }

    MK_DEVICE bool has_more() const { return row_ != end_; }

    // Tells the first entry of the layout that breaks its rule. All lanes of one warp of the grid call.
    static MK_DEVICE void check(const abi::GemmParams& p) { check_runs(p, 0, p.m); }
    // The same of a part, from `begin` on; returns where to go on.
    static MK_DEVICE uint32_t check_part(const abi::GemmParams& p, uint32_t begin) {
        return check_runs(p, begin, 2048);
    }

private:
    const abi::GemmParams& p_;
    ClusterGrid grid_;
    uint32_t num_m_, num_n_;
    uint32_t idx_;
    uint32_t row_ = 0, end_ = 0;  // what is left of the block's rows
    uint32_t column_ = 0;
};

}  // namespace moekit::sched
