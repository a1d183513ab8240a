// The math of E4M3 products with weights on the M side of the tensor core and tokens on its N side, so that few tokens
// leave no rows of a product idle. The sums are the same, in the same order: the same bits.
#pragma once

#include "epilogue/store_bf16.cuh"
#include "epilogue/store_f32.cuh"
#include "kernels/gemm/math.cuh"
#include "mma/fp8.cuh"

#include <cuda/ptx>

namespace moekit::kernels {

// Scales of one stage that a thread of the products needs.
template <layout::GemmTile kTile>
struct Fp8SwappedScales {
    float2 a[kTile.block_m / 8];  // of the thread's two tokens in each eight
    float b;

    MK_DEVICE explicit Fp8SwappedScales(uint32_t scales_smem) {
        const auto* scales = static_cast<const float*>(__cvta_shared_to_generic(scales_smem));
#pragma unroll
        for (uint32_t j = 0; j < kTile.block_m / 8; ++j)
            a[j] = *reinterpret_cast<const float2*>(scales + 8 * j + 2 * (common::lane_idx() % 4));
        b = scales[kTile.block_m];
    }
};

// A math warpgroup's 64 weights of one block.
template <layout::GemmTile kTile>
struct Fp8SwappedMath {
    using Smem = layout::GemmSmem<kTile>;
    using Box = epilogue::Bf16Box<kTile.block_m, 64>;
    static constexpr uint32_t kSlices = 1;
    static constexpr uint32_t kN = kTile.block_m;

    static_assert(kTile.num_slices() == 1 and kTile.block_n <= 128, "one scale of B for all of the block");

    MathWarp<kTile> at;

    MK_DEVICE void multiply(GemmRing<kTile>& ring, float (&accum)[1][kN / 2]) const {
        const abi::GemmParams& p = at.p;
        for (uint32_t k = 0; k < p.k; k += common::kGranK, ring.advance()) {
            ring.wait_full();
            const Fp8SwappedScales<kTile> scales(ring.data() + Smem::kScales);
            const uint32_t b_smem = ring.data() + Smem::kB + at.group_idx * 64 * layout::kBlockKBytes;
            float sum[kN / 2];
            mma::start_block<kN>(sum, mma::k_major_descriptor(b_smem), mma::k_major_descriptor(ring.data() + Smem::kA));
            ptx::wgmma_wait_group<0>();
            ptx::wgmma_pin(sum);
            // NOTE: the scales are in registers by now: the stage may be filled again.
            at.release(ring.stage);
            mma::promote_swapped<kN>(accum[0], sum, scales.a, scales.b);
        }
    }

    MK_DEVICE void store(const sched::Block& block, float (&accum)[1][kN / 2]) const {
        const uint32_t num_rows = block.num_rows + block.num_zero_rows;
        if (block.num_zero_rows != 0) {
#pragma unroll
            for (uint32_t i = 0; i < kN / 2; ++i)
                if (i / 4 * 8 + 2 * (common::lane_idx() % 4) + i % 2 >= block.num_rows)
                    accum[0][i] = 0.0f;
        }
        const uint32_t column = block.column + at.group_idx * 64;
        if (at.p.kind == abi::GemmOut::kBf16)
            return store_bf16(block, num_rows, column, accum[0]);
        epilogue::store_f32_swapped<kN>(at.p, block, column + at.warp_in_group * 16, num_rows, accum[0]);
    }

private:
    MK_DEVICE void store_bf16(const sched::Block& block, uint32_t num_rows, uint32_t column,
                              const float (&accum)[kN / 2]) const {
        const Box box = {at.smem + Smem::d(at.p.num_stages) + at.group_idx * Box::kBytes, block.a_group, block.row,
                         column};
        at.wait_stored();
        epilogue::columns_to_shared<kN>(accum, box.smem, at.warp_in_group);
        const bool by_tma = at.ready_to_store(block, num_rows);
        if (not by_tma) {
            box.copy_rows(at.p, num_rows);
        } else if (at.is_leader()) {
            box.store(at.p);
            cuda::ptx::cp_async_bulk_commit_group();
        }
    }
};

}  // namespace moekit::kernels
