// act[m, n] = quantise(silu(gate) * up), gate and up = A[m, k] @ B[group][n, k]^T of B's first and second n rows, each
// rounded to BF16: a product and `swiglu_quantize` in one launch, with their bits. As gemm.cuh, but for the store: the
// products' warpgroups leave a block in shared memory, and the two warps that load nothing activate it while the next
// block is multiplied. The last block of a CTA has no next: all warps share it. Meaning: src/gemm/swiglu.rs.
#pragma once

#include "abi/gemm_swiglu.h"
#include "kernels/gemm/fp8_gated_math.cuh"
#include "kernels/gemm/gemm.cuh"

#include <cuda/ptx>

namespace moekit::kernels {

// Warps that only activate, and warps that multiply.
constexpr uint32_t kActivatingWarps = 2;
template <layout::GemmTile kTile>
constexpr uint32_t kMathWarps = 4 * kTile.num_math_warpgroups;

// The block between products and activation: gate and up in shared memory behind the ring, and two barriers behind the
// ring's own. A role goes from block to block with it.
template <layout::GemmTile kTile>
struct HandOver {
    static constexpr uint32_t kFull = layout::GemmSmem<kTile>::kBarrierBytes, kEmpty = kFull + 8;
    static_assert(kEmpty + 8 <= layout::GemmSmem<kTile>::kRing);

    uint32_t smem;
    uint32_t num_stages;
    uint32_t parity = 0;

    MK_DEVICE void init() const {
        cuda::ptx::mbarrier_init(shared_barrier(smem + kFull), uint32_t{kMathWarps<kTile>});
        cuda::ptx::mbarrier_init(shared_barrier(smem + kEmpty), uint32_t{kActivatingWarps});
    }

    MK_DEVICE uint32_t tile() const { return smem + layout::GemmSmem<kTile>::d(num_stages); }

    MK_DEVICE void wait_full() const { ptx::mbarrier_wait_parity(smem + kFull, parity); }
    // NOTE: the phase before the first counts as ended.
    MK_DEVICE void wait_empty() const { ptx::mbarrier_wait_parity(smem + kEmpty, parity ^ 1); }
    MK_DEVICE void tell_full() const { tell(kFull); }
    MK_DEVICE void tell_empty() const { tell(kEmpty); }
    MK_DEVICE void advance() { parity ^= 1; }

private:
    // NOTE: one lane speaks for what all have read or written.
    MK_DEVICE void tell(uint32_t barrier) const {
        __syncwarp();
        if (common::lane_idx() == 0)
            cuda::ptx::mbarrier_arrive(shared_barrier(smem + barrier));
    }
};

// Calls `visit` with each block of this CTA that has columns of the result, and returns whether there was one; `last`
// is then the last.
template <typename Scheduler, typename Visit>
MK_DEVICE bool for_each_stored_block(const abi::GemmParams& p, sched::Block& last, Visit&& visit) {
    bool has_block = false;
    sched::for_each_block<Scheduler>(p, [&](const sched::Block& block) {
        visit(block);
        if (block.column < p.n) {
            last = block;
            has_block = true;
        }
    });
    return has_block;
}

template <layout::GemmTile kTile, typename Scheduler>
MK_DEVICE void multiply_gated_blocks(const abi::GemmSwigluParams& p, uint32_t smem) {
    const Fp8GatedMath<kTile> math = {{}, {p.product, smem}};
    GemmRing<kTile> ring = {smem, p.product.num_stages};
    ScaleRing<kTile> scales = scale_ring<kTile>(p.product, smem);
    HandOver<kTile> hand_over = {smem, p.product.num_stages};
    sched::Block last;
    const bool has_block = for_each_stored_block<Scheduler>(p.product, last, [&](const sched::Block& block) {
        float accum[Fp8GatedMath<kTile>::kSlices][Fp8GatedMath<kTile>::kN / 2] = {};
        if (block.multiplies)
            math.multiply(ring, scales, accum);
        if (block.column < p.product.n) {
            hand_over.wait_empty();
            math.to_shared(accum, hand_over.tile());
            hand_over.tell_full();
            hand_over.advance();
        }
    });
    if (has_block) {
        hand_over.advance();
        hand_over.wait_full();
        const uint32_t first = kActivatingWarps + math.at.group_idx * 4 + math.at.warp_in_group;
        epilogue::activate_rows<kTile>(p, last, hand_over.tile(), first, kActivatingWarps + kMathWarps<kTile>);
    }
}

// By one of the warps that load nothing. NOTE: a block is activated when the next is known, which is at once, so that
// the last is known as such. One warp of the grid looks meanwhile whether the layout is in order, part by part: it must
// not fall behind.
template <layout::GemmTile kTile, typename Scheduler>
MK_DEVICE void activate_blocks(const abi::GemmSwigluParams& p, uint32_t smem, uint32_t idx) {
    HandOver<kTile> hand_over = {smem, p.product.num_stages};
    uint32_t checked = blockIdx.x == 0 and idx == 0 ? 0 : sched::kAllChecked;
    const auto check_part = [&] {
        if (checked != sched::kAllChecked)
            checked = Scheduler::check_part(p.product, checked);
    };
    bool has_before = false;
    sched::Block last;
    for_each_stored_block<Scheduler>(p.product, last, [&](const sched::Block& block) {
        if (has_before and block.column < p.product.n) {
            check_part();
            hand_over.wait_full();
            epilogue::activate_rows<kTile>(p, last, hand_over.tile(), idx, kActivatingWarps);
            hand_over.tell_empty();
            hand_over.advance();
        }
        has_before |= block.column < p.product.n;
    });
    while (checked != sched::kAllChecked)
        check_part();
    if (has_before) {
        hand_over.wait_full();
        epilogue::activate_rows<kTile>(p, last, hand_over.tile(), idx, kActivatingWarps + kMathWarps<kTile>);
    }
}

template <layout::GemmTile kTile, typename Scheduler>
MK_DEVICE void swiglu_gemm(const abi::GemmSwigluParams& params) {
    extern __shared__ __align__(1024) uint8_t smem_bytes[];
    // NOTE: through a shuffle, so that the compiler keeps the address and does not compute it again in every loop.
    const uint32_t smem = __shfl_sync(common::kFullWarp, ptx::shared_address(smem_bytes), 0);
    const abi::GemmParams& p = params.product;

    const uint32_t warp = __shfl_sync(common::kFullWarp, threadIdx.x / 32, 0);
    if (threadIdx.x == 0)
        HandOver<kTile>{smem, p.num_stages}.init();
    if (warp < 4)
        init_barriers<kTile>(p, smem, warp);
    ptx::cluster_sync();
    ptx::griddepcontrol_wait();

    if (warp < 4) {
        // NOTE: more than loads need: eight activations are under way at once.
        if constexpr (kShiftsRegisters<kTile>)
            cuda::ptx::setmaxnreg_dec(cuda::ptx::n32_t<56>{});
        if (warp == 0)
            load_tiles<kTile, Scheduler>(p, smem);
        else if (warp == 1 and not loads_scales_by_tma(p))
            copy_scales<kTile, Scheduler, GemmRing<kTile>>(p, smem);
        else if (warp >= 2)
            activate_blocks<kTile, Scheduler>(params, smem, warp - 2);
    } else {
        if constexpr (kShiftsRegisters<kTile>)
            cuda::ptx::setmaxnreg_inc(cuda::ptx::n32_t<224>{});
        multiply_gated_blocks<kTile, Scheduler>(params, smem);
    }
    // NOTE: the other CTA of a cluster may still load into this one's shared memory, or arrive at its barriers.
    ptx::cluster_sync();
}

}  // namespace moekit::kernels
