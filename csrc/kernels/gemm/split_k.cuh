// Adds up a block of D that the CTAs of a cluster computed part by part along K. Each sends its sums to the others,
// some rows to each, by stores that count themselves at the receiver's barrier; that one adds, the CTA with the first
// of K before the second and so on, and stores. Nothing goes through global memory, and the order of sums is always the
// same.
#pragma once

#include "kernels/gemm/k_part.cuh"
#include "kernels/gemm/load.cuh"
#include "sched/block.cuh"

#include <cuda/ptx>

namespace moekit::kernels {

// Of tiles whose K is never in parts.
template <layout::GemmTile kTile, bool kSplits = kTile.splits_k()>
struct SplitK {
    MK_DEVICE SplitK(const abi::GemmParams&, uint32_t) {}

    MK_DEVICE void init() const {}
    template <typename Accum>
    MK_DEVICE void add_up(Accum&) {}
    MK_DEVICE const sched::Block& part_of(const sched::Block& block) const { return block; }
    MK_DEVICE void finish() const {}
};

// A math warp's view of the exchange. The block's rows, the N side of the product, come in eights, of which a thread
// has four sums each; a CTA adds up neighbours. Two barriers behind the ring's own: sums have come, all have read them.
template <layout::GemmTile kTile>
struct SplitK<kTile, true> {
    using Smem = layout::GemmSmem<kTile>;
    static constexpr uint32_t kFull = Smem::kBarrierBytes, kEmpty = kFull + 8;
    static constexpr uint32_t kNumThreads = 128 * kTile.num_math_warpgroups;
    static constexpr uint32_t kNumEights = kTile.block_m / 8;
    static_assert(kEmpty + 8 <= Smem::kRing);
    static_assert((kNumEights & (kNumEights - 1)) == 0, "CTAs share them evenly");

    const abi::GemmParams& p;
    uint32_t smem;
    uint32_t parity = 0;

    MK_DEVICE SplitK(const abi::GemmParams& params, uint32_t shared) : p(params), smem(shared) {}

    // By one thread.
    MK_DEVICE void init() const {
        if (not shares_d<kTile>(p))
            return;
        cuda::ptx::mbarrier_init(shared_barrier(smem + kFull), uint32_t{1});
        cuda::ptx::mbarrier_init(shared_barrier(smem + kEmpty), num_adding_ctas() * (kNumThreads / 32));
    }

    // Leaves the sums of this CTA's rows in front.
    MK_DEVICE void add_up(float (&accum)[1][kTile.block_m / 2]) {
        if (not shares_d<kTile>(p))
            return;
        // NOTE: the phase before the first counts as ended.
        ptx::mbarrier_wait_parity(smem + kEmpty, parity ^ 1);
        send(accum[0]);
        if (adds()) {
            ptx::mbarrier_wait_parity_cluster(smem + kFull, parity);
            receive(accum[0]);
            // NOTE: the lanes that tell it speak for what the others read.
            __syncwarp();
            if (common::lane_idx() < ptx::cluster_nctarank())
                ptx::mbarrier_arrive_cluster(ptx::mapa_shared_cluster_u32(smem + kEmpty, common::lane_idx()));
        }
        parity ^= 1;
    }

    // This CTA's rows, perhaps none.
    MK_DEVICE sched::Block part_of(const sched::Block& block) const {
        if (not shares_d<kTile>(p))
            return block;
        const uint32_t len = 8 << eights_log2(), first = len * ptx::cluster_ctarank();
        sched::Block part = block;
        part.row += first;
        part.num_rows = rows_within(first, len, block.num_rows);
        part.num_zero_rows = rows_within(first, len, block.num_rows + block.num_zero_rows) - part.num_rows;
        return part;
    }

    // NOTE: shared memory must outlive the other CTAs' arrivals at its barrier.
    MK_DEVICE void finish() const {
        if (shares_d<kTile>(p))
            ptx::mbarrier_wait_parity(smem + kEmpty, parity ^ 1);
    }

private:
    // Logarithm of the eights that a CTA adds up.
    MK_DEVICE uint32_t eights_log2() const {
        const uint32_t all = 31 - __clz(kNumEights), shift = ptx::cluster_len_log2();
        return all > shift ? all - shift : 0;
    }

    // The first of the cluster, if there are fewer eights than CTAs.
    MK_DEVICE uint32_t num_adding_ctas() const { return min(kNumEights, ptx::cluster_nctarank()); }
    MK_DEVICE bool adds() const { return ptx::cluster_ctarank() < num_adding_ctas(); }

    // Where this thread's sums of an eight lie, of those that CTA `cta_rank` sent.
    MK_DEVICE uint32_t place(uint32_t cta_rank, uint32_t eight) const {
        const uint32_t first = smem + Smem::partials(p.num_stages, p.kind == abi::GemmOut::kBf16);
        return first + (((cta_rank << eights_log2()) + eight) * kNumThreads + threadIdx.x - 128) * 16;
    }

    MK_DEVICE void send(const float (&accum)[kTile.block_m / 2]) const {
        const uint32_t log2 = eights_log2(), mask = (1 << log2) - 1, cta_rank = ptx::cluster_ctarank();
        if (threadIdx.x == 128 and adds())
            cuda::ptx::mbarrier_arrive_expect_tx(cuda::ptx::sem_release, cuda::ptx::scope_cta, cuda::ptx::space_shared,
                                                 shared_barrier(smem + kFull),
                                                 (ptx::cluster_nctarank() << log2) * kNumThreads * 16);
#pragma unroll
        for (uint32_t eight = 0; eight < kNumEights; ++eight) {
            const uint32_t to = ptx::mapa_shared_cluster_u32(place(cta_rank, eight & mask), eight >> log2);
            const uint32_t barrier = ptx::mapa_shared_cluster_u32(smem + kFull, eight >> log2);
            const float sums[4] = {accum[4 * eight], accum[4 * eight + 1], accum[4 * eight + 2], accum[4 * eight + 3]};
            cuda::ptx::st_async(static_cast<float*>(__cvta_shared_to_generic(to)), sums, shared_barrier(barrier));
        }
    }

    MK_DEVICE void receive(float (&accum)[kTile.block_m / 2]) const {
        set_or_add<false>(accum, 0);
#pragma unroll 1
        for (uint32_t cta = 1; cta < ptx::cluster_nctarank(); ++cta)
            set_or_add<true>(accum, cta);
    }

    // This CTA's part of what another sent.
    template <bool kAdds>
    MK_DEVICE void set_or_add(float (&accum)[kTile.block_m / 2], uint32_t cta_rank) const {
        // NOTE: two CTAs at least share them.
        constexpr uint32_t kMost = kNumEights > 1 ? kNumEights / 2 : 1;
#pragma unroll
        for (uint32_t eight = 0; eight < kMost; ++eight) {
            if (eight >> eights_log2() != 0)
                return;
            const float4 four = load_sums(cta_rank, eight);
            const float sums[4] = {four.x, four.y, four.z, four.w};
#pragma unroll
            for (uint32_t i = 0; i < 4; ++i)
                accum[4 * eight + i] = kAdds ? accum[4 * eight + i] + sums[i] : sums[i];
        }
    }

    MK_DEVICE float4 load_sums(uint32_t cta_rank, uint32_t eight) const {
        return *static_cast<const float4*>(__cvta_shared_to_generic(place(cta_rank, eight)));
    }

    static MK_DEVICE uint32_t rows_within(uint32_t first, uint32_t len, uint32_t num_rows) {
        return num_rows > first ? min(num_rows - first, len) : 0;
    }
};

}  // namespace moekit::kernels
