// Which part of K a CTA multiplies: all of it, or its share of a block of D that the CTAs of a cluster sum together.
#pragma once

#include "abi/gemm.h"
#include "common/bits.cuh"
#include "common/scale.cuh"
#include "layout/gemm_smem.cuh"
#include "ptx/cluster.cuh"

namespace moekit::kernels {

template <layout::GemmTile kTile>
MK_DEVICE bool shares_d(const abi::GemmParams& p) {
    return kTile.splits_k() and p.cluster_shares == abi::ClusterShares::kD;
}

// CTAs of the cluster that load for each other.
template <layout::GemmTile kTile>
MK_DEVICE uint32_t num_loading_ctas(const abi::GemmParams& p) {
    return shares_d<kTile>(p) ? 1 : ptx::cluster_nctarank();
}

struct KPart {
    uint32_t begin, end;

    MK_DEVICE uint32_t len() const { return end - begin; }
};

// Parts differ by one step at most; of fewer steps than CTAs some have none. A step is what scales come in: four blocks
// where K has fours of them, as TMA loads them, or one. NOTE: K and the number of parts alone decide where parts end,
// so that a row's bits depend on nothing else: src/backend/cuda/heuristics/split.rs.
template <layout::GemmTile kTile>
MK_DEVICE KPart k_part(const abi::GemmParams& p) {
    if (shares_d<kTile>(p)) {
        const bool in_fours = common::ceil_div(p.k, common::kGranK) % layout::kScaleBlocks == 0;
        const uint32_t step = (in_fours ? layout::kScaleBlocks : 1) * common::kGranK;
        const uint32_t num_steps = common::ceil_div(p.k, step);
        const uint32_t rank = ptx::cluster_ctarank(), shift = ptx::cluster_len_log2();
        return {(num_steps * rank >> shift) * step, min((num_steps * (rank + 1) >> shift) * step, p.k)};
    }
    return {0, p.k};
}

}  // namespace moekit::kernels
