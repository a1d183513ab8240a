// What a CTA computes in one turn, and the order of blocks.
#pragma once

#include "abi/gemm.h"
#include "common/bits.cuh"
#include "ptx/cluster.cuh"

namespace moekit::sched {

struct Block {
    uint32_t group;          // whose weights
    uint32_t a_group;        // which matrix of A and D
    uint32_t row, column;    // of D, first of the block
    uint32_t num_rows;       // computed
    uint32_t num_zero_rows;  // written as zeros, behind the computed ones
    bool multiplies;         // otherwise nothing is loaded
};

// Where a check of a layout in parts goes on when all entries have been looked at, or one has been told.
constexpr uint32_t kAllChecked = 0xffffffff;

// Block (m, n) of a grid.
struct Position {
    uint32_t m, n;
};

// Bands of `width` blocks along M; within a band down its M first, then along N: blocks that run at the same time
// share rows of A and of B.
MK_DEVICE Position in_bands(uint32_t idx, uint32_t num_m, uint32_t num_n, uint32_t width) {
    if (num_m == 1)
        return {0, idx};
    const uint32_t band = num_m <= width ? 0 : idx / (width * num_n);
    const uint32_t first_m = band * width;
    const uint32_t band_m = min(width, num_m - first_m);
    const uint32_t in_band = idx - first_m * num_n;
    const uint32_t n = in_band / band_m;
    return {first_m + in_band - n * band_m, n};
}

// The grid of blocks as clusters of CTAs walk it: a cluster takes neighbours. NOTE: clusters' lengths are powers of
// two, and all that would be divided by them is shifted: the first load waits for what is here.
struct ClusterGrid {
    uint32_t shift_m, shift_n;  // logarithms of a cluster's blocks
    uint32_t rank;              // of this CTA
    uint32_t cluster_idx, num_clusters;

    MK_DEVICE explicit ClusterGrid(abi::ClusterShares shares) {
        const uint32_t shift = ptx::cluster_len_log2();
        shift_m = shares == abi::ClusterShares::kB ? shift : 0;
        shift_n = shares == abi::ClusterShares::kA ? shift : 0;
        rank = ptx::cluster_ctarank();
        cluster_idx = cuda::ptx::get_sreg_clusterid_x();
        num_clusters = cuda::ptx::get_sreg_nclusterid_x();
    }

    // Clusters that blocks fill, along M or N.
    static MK_DEVICE uint32_t num_spans(uint32_t num_blocks, uint32_t shift) {
        return (num_blocks + (1u << shift) - 1) >> shift;
    }

    MK_DEVICE uint32_t num_units(uint32_t num_m, uint32_t num_n) const {
        return num_spans(num_m, shift_m) * num_spans(num_n, shift_n);
    }

    // This CTA's block of unit `idx`. NOTE: it may lie outside the grid; the CTA then computes it all the same, for
    // the other one needs what it loads, and stores nothing.
    MK_DEVICE Position block(uint32_t idx, uint32_t num_m, uint32_t num_n, uint32_t band_width) const {
        const Position unit = in_bands(idx, num_spans(num_m, shift_m), num_spans(num_n, shift_n), band_width);
        return {(unit.m << shift_m) + (shift_m > 0 ? rank : 0), (unit.n << shift_n) + (shift_n > 0 ? rank : 0)};
    }
};

// Calls `visit` with every block of this CTA, in an order that is the same for all its warps. All lanes of a warp call.
// A scheduler goes to the next part of the grid, which has a block and perhaps more. NOTE: two loops, the outer without
// a look at memory: a compiler that does not see the warp leave it as one computes operands of products lane by lane.
template <typename Scheduler, typename Visit>
MK_DEVICE void for_each_block(const abi::GemmParams& p, Visit&& visit) {
    Scheduler scheduler(p);
    while (scheduler.next()) {
        do {
            const Block block = scheduler.take();
            visit(block);
        } while (scheduler.has_more());
    }
}

}  // namespace moekit::sched
