// D[m, n] (+)= A[m, k] @ B[group][n, k]^T in E4M3, with a scale per row x 128 of A and per 128 x 128 of B; products are
// summed over 128 of K, then promoted to FP32, blocks of K in ascending order. Persistent: a CTA takes block after
// block. Warpgroup 0 fills a ring of stages in shared memory, the others multiply and store, 64 rows at a time.
// The layout of rows is the scheduler's affair alone. Meaning: src/gemm.
#pragma once

#include "epilogue/store_bf16.cuh"
#include "epilogue/store_f32.cuh"
#include "kernels/gemm/load.cuh"
#include "mma/fp8.cuh"
#include "ptx/cluster.cuh"

#include <cuda/ptx>

namespace moekit::kernels {

// Config checks.
template <layout::GemmTile kTile>
struct Fp8TileChecks {
    static_assert(not kTile.swaps_operands);
    static_assert(kTile.block_m % (64 * kTile.num_math_warpgroups) == 0, "warpgroups share 64-row slices evenly");
    static_assert(kTile.block_n % layout::kStoreColumns == 0, "columns are stored in whole boxes");
};

// Registers of a thread: what a launch gives, shifted from the loads to the products.
template <layout::GemmTile kTile>
MK_DEVICE void give_registers() {
    if constexpr (kTile.num_math_warpgroups == 2)
        cuda::ptx::setmaxnreg_dec(cuda::ptx::n32_t<40>{});
}

template <layout::GemmTile kTile>
MK_DEVICE void take_registers() {
    if constexpr (kTile.num_math_warpgroups == 2)
        cuda::ptx::setmaxnreg_inc(cuda::ptx::n32_t<232>{});
}

// Scales of one stage that a thread of the products needs.
template <layout::GemmTile kTile>
struct Fp8Scales {
    using Smem = layout::GemmSmem<kTile>;
    float a[kTile.num_slices()][2];
    float b[Smem::kNumBScales];

    // `row` is the thread's first in the block.
    MK_DEVICE Fp8Scales(uint32_t scales_smem, uint32_t row) {
        const auto* scales = static_cast<const float*>(__cvta_shared_to_generic(scales_smem));
#pragma unroll
        for (uint32_t slice = 0; slice < kTile.num_slices(); ++slice) {
            a[slice][0] = scales[row + 64 * slice];
            a[slice][1] = scales[row + 64 * slice + 8];
        }
#pragma unroll
        for (uint32_t i = 0; i < Smem::kNumBScales; ++i)
            b[i] = scales[kTile.block_m + i];
    }
};

// A math warpgroup's slices of one block.
template <layout::GemmTile kTile>
struct Fp8Math {
    using Smem = layout::GemmSmem<kTile>;
    static constexpr uint32_t kSlices = kTile.num_slices();
    static constexpr uint32_t kN = kTile.block_n;

    const abi::GemmParams& p;
    uint32_t smem;
    uint32_t group_idx;  // of this warpgroup
    uint32_t warp_in_group;
    uint32_t peer_empty;  // the empty barriers of CTA `lane` of the cluster
    bool releases;        // whether this lane tells one

    MK_DEVICE Fp8Math(const abi::GemmParams& params, uint32_t shared) : p(params), smem(shared) {
        // NOTE: through a shuffle, so that the compiler sees one value for the warp.
        const uint32_t warp = __shfl_sync(common::kFullWarp, threadIdx.x / 32 - 4, 0);
        group_idx = warp / 4;
        warp_in_group = warp % 4;
        releases = common::lane_idx() < ptx::cluster_nctarank();
        peer_empty =
            ptx::mapa_shared_cluster_u32(smem + Smem::empty(p.num_stages, 0), releases ? common::lane_idx() : 0);
    }

    MK_DEVICE void multiply(common::RingState& ring, float (&accum)[kSlices][kN / 2]) const {
        const uint32_t first_slice = group_idx * kSlices;
        const uint32_t row = first_slice * 64 + warp_in_group * 16 + common::lane_idx() / 4;
        for (uint32_t k = 0; k < p.k; k += common::kGranK, ring.advance()) {
            ring.wait_full();
            const Fp8Scales<kTile> scales(smem + Smem::scales(p.num_stages, ring.stage), row);
            const uint64_t b = mma::k_major_descriptor(smem + Smem::b(p.num_stages, ring.stage));
#pragma unroll
            for (uint32_t slice = 0; slice < kSlices; ++slice) {
                const uint32_t a_smem = smem + Smem::a(ring.stage) + (first_slice + slice) * 64 * layout::kBlockKBytes;
                float sum[kN / 2];
                mma::start_block<kN>(sum, mma::k_major_descriptor(a_smem), b);
                ptx::wgmma_wait_group<0>();
                ptx::wgmma_pin(sum);
                if (slice + 1 == kSlices) {
                    // NOTE: an arrival releases the reads of its own lane alone, so the warp meets first. The
                    // scales are in registers by now: the stage may be filled again.
                    __syncwarp();
                    if (releases)
                        ptx::mbarrier_arrive_cluster(peer_empty + 8 * ring.stage);
                }
                mma::promote<kN, Smem::kScaleColumns>(accum[slice], sum, scales.a[slice], scales.b);
            }
        }
    }

    MK_DEVICE void store(const sched::Block& block, float (&accum)[kSlices][kN / 2]) const {
        if (block.column >= p.n)
            return;
        const uint32_t num_rows = block.num_rows + block.num_zero_rows;
        clear_zero_rows(block, accum);
        if (p.kind == abi::GemmOut::kBf16)
            return store_bf16(block, num_rows, accum);
#pragma unroll
        for (uint32_t slice = 0; slice < kSlices; ++slice) {
            const uint32_t first = (group_idx * kSlices + slice) * 64;
            const auto of_slice = [&](uint32_t rows) { return rows > first ? rows - first : 0; };
            epilogue::store_f32<kN>(p, block, block.row + first, of_slice(block.num_rows), of_slice(num_rows),
                                    accum[slice], warp_in_group);
        }
    }

    MK_DEVICE void clear_zero_rows(const sched::Block& block, float (&accum)[kSlices][kN / 2]) const {
        if (block.num_zero_rows == 0)
            return;
#pragma unroll
        for (uint32_t slice = 0; slice < kSlices; ++slice) {
            const uint32_t row = (group_idx * kSlices + slice) * 64 + warp_in_group * 16 + common::lane_idx() / 4;
#pragma unroll
            for (uint32_t i = 0; i < kN / 2; ++i)
                if (row + i / 2 % 2 * 8 >= block.num_rows)
                    accum[slice][i] = 0.0f;
        }
    }

    MK_DEVICE void store_bf16(const sched::Block& block, uint32_t num_rows,
                              const float (&accum)[kSlices][kN / 2]) const {
        // NOTE: TMA leaves out what lies outside D, but knows nothing of rows that others own.
        const bool is_whole = num_rows == kTile.block_m or block.row + num_rows == p.m;
        const bool by_tma = p.stores_by_tma and is_whole;
        const uint32_t barrier = 1 + group_idx;
        const bool is_leader = threadIdx.x % 128 == 0;
        if (is_leader)
            cuda::ptx::cp_async_bulk_wait_group_read(cuda::ptx::n32_t<0>{});
        ptx::bar_sync(barrier, 128);
        const uint32_t first_smem = smem + Smem::kD + group_idx * kSlices * 64 * kN * 2;
#pragma unroll
        for (uint32_t slice = 0; slice < kSlices; ++slice)
            epilogue::slice_to_shared<kN>(accum[slice], first_smem + slice * 64 * kN * 2, warp_in_group);
        if (by_tma)
            cuda::ptx::fence_proxy_async(cuda::ptx::space_shared);
        ptx::bar_sync(barrier, 128);
#pragma unroll
        for (uint32_t slice = 0; slice < kSlices; ++slice) {
            const uint32_t first = (group_idx * kSlices + slice) * 64;
            const uint32_t slice_smem = first_smem + slice * 64 * kN * 2;
            if (not by_tma)
                epilogue::copy_rows<kN>(p, block, block.row + first, num_rows > first ? min(num_rows - first, 64) : 0,
                                        slice_smem);
            else if (is_leader)
                epilogue::store_slice<kN>(p, block, block.row + first, slice_smem);
        }
        if (by_tma and is_leader)
            cuda::ptx::cp_async_bulk_commit_group();
    }
};

template <layout::GemmTile kTile, typename Scheduler>
MK_DEVICE void multiply_blocks(const abi::GemmParams& p, uint32_t smem) {
    using Math = Fp8Math<kTile>;
    const Math math(p, smem);
    common::RingState ring = gemm_ring<kTile>(p, smem);
    sched::for_each_block<Scheduler>(p, [&](const sched::Block& block) {
        float accum[Math::kSlices][Math::kN / 2] = {};
        if (block.multiplies)
            math.multiply(ring, accum);
        math.store(block, accum);
    });
    // NOTE: shared memory must outlive the copies that read it.
    if (threadIdx.x % 128 == 0)
        cuda::ptx::cp_async_bulk_wait_group_read(cuda::ptx::n32_t<0>{});
}

template <layout::GemmTile kTile, typename Scheduler>
MK_DEVICE void gemm_fp8(const abi::GemmParams& p) {
    [[maybe_unused]] constexpr Fp8TileChecks<kTile> kChecks;
    using Smem = layout::GemmSmem<kTile>;
    extern __shared__ __align__(1024) uint8_t smem_bytes[];
    const uint32_t smem = ptx::shared_address(smem_bytes);

    if (threadIdx.x == 0) {
        const uint32_t num_releases = 4 * kTile.num_math_warpgroups * ptx::cluster_nctarank();
        for (uint32_t stage = 0; stage < p.num_stages; ++stage) {
            cuda::ptx::mbarrier_init(shared_barrier(smem + Smem::full(p.num_stages, stage)), uint32_t{kFullArrivals});
            cuda::ptx::mbarrier_init(shared_barrier(smem + Smem::empty(p.num_stages, stage)), num_releases);
        }
        cuda::ptx::fence_mbarrier_init(cuda::ptx::sem_release, cuda::ptx::scope_cluster);
    }
    ptx::cluster_sync();
    ptx::griddepcontrol_wait();

    const uint32_t warp = __shfl_sync(common::kFullWarp, threadIdx.x / 32, 0);
    if (warp < 4) {
        give_registers<kTile>();
        if (warp == 0)
            load_tiles<kTile, Scheduler>(p, smem);
        else if (warp == 1)
            load_scales<kTile, Scheduler>(p, smem);
        else if (warp == 2 and blockIdx.x == 0)
            Scheduler::check(p);
    } else {
        take_registers<kTile>();
        multiply_blocks<kTile, Scheduler>(p, smem);
    }
    // NOTE: the other CTA of a cluster may still load into this one's shared memory, or arrive at its barriers.
    ptx::cluster_sync();
}

}  // namespace moekit::kernels
