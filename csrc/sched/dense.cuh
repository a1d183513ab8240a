// Blocks of one product.
#pragma once

#include "sched/block.cuh"

namespace moekit::sched {

template <uint32_t kBlockM, uint32_t kBlockN>
class Dense {
public:
    static constexpr bool kHasRowWeights = false;

    MK_DEVICE explicit Dense(const abi::GemmParams& p)
        : p_(p),
          grid_(p.cluster_shares),
          num_m_(common::ceil_div(p.m, kBlockM)),
          num_n_(common::ceil_div(p.n, kBlockN)),
          idx_(grid_.cluster_idx) {}

    MK_DEVICE bool next() {
        if (idx_ >= grid_.num_units(num_m_, num_n_))
            return false;
        const Position at = grid_.block(idx_, num_m_, num_n_, p_.band_width);
        const uint32_t row = at.m * kBlockM;
        block_ = {0, 0, row, at.n * kBlockN, row < p_.m ? min(kBlockM, p_.m - row) : 0, 0, true};
        idx_ += grid_.num_clusters;
        return true;
    }

    MK_DEVICE Block take() const { return block_; }

    MK_DEVICE bool has_more() const { return false; }

    // Nothing of the layout can be wrong.
    static MK_DEVICE void check(const abi::GemmParams&) {}

private:
    const abi::GemmParams& p_;
    ClusterGrid grid_;
    uint32_t num_m_, num_n_;
    uint32_t idx_;
    Block block_;
};

}  // namespace moekit::sched
