// What a CTA computes in one turn, and the order of blocks.
#pragma once

#include "abi/gemm.h"
#include "common/bits.cuh"

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
    const uint32_t band = idx / (width * num_n);
    const uint32_t first_m = band * width;
    const uint32_t band_m = min(width, num_m - first_m);
    const uint32_t in_band = idx - first_m * num_n;
    const uint32_t n = in_band / band_m;
    return {first_m + in_band - n * band_m, n};
}

// The grid of blocks as clusters of CTAs walk it: a cluster takes two neighbours.
struct ClusterGrid {
    uint32_t span_m, span_n;  // blocks of a cluster
    uint32_t rank;            // of this CTA
    uint32_t cluster_idx, num_clusters;

    MK_DEVICE explicit ClusterGrid(abi::ClusterShares shares) {
        span_m = shares == abi::ClusterShares::kB ? 2 : 1;
        span_n = shares == abi::ClusterShares::kA ? 2 : 1;
        const uint32_t len = span_m * span_n;
        rank = blockIdx.x % len;
        cluster_idx = blockIdx.x / len;
        num_clusters = gridDim.x / len;
    }

    MK_DEVICE uint32_t num_units(uint32_t num_m, uint32_t num_n) const {
        return common::ceil_div(num_m, span_m) * common::ceil_div(num_n, span_n);
    }

    // This CTA's block of unit `idx`. NOTE: it may lie outside the grid; the CTA then computes it all the same, for
    // the other one needs what it loads, and stores nothing.
    MK_DEVICE Position block(uint32_t idx, uint32_t num_m, uint32_t num_n, uint32_t band_width) const {
        const Position unit =
            in_bands(idx, common::ceil_div(num_m, span_m), common::ceil_div(num_n, span_n), band_width);
        return {unit.m * span_m + (span_m == 2 ? rank : 0), unit.n * span_n + (span_n == 2 ? rank : 0)};
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
