// How scales come into their ring: by TMA, four blocks of K at once, if their order lets it; else by the copies of one
// warp, a block at a time.
#pragma once

#include "abi/gemm.h"
#include "common/ring.cuh"
#include "common/scale.cuh"
#include "common/warp.cuh"
#include "kernels/gemm/k_part.cuh"
#include "layout/gemm_smem.cuh"
#include "sched/block.cuh"

#include <cuda/ptx>

namespace moekit::kernels {

template <layout::GemmTile kTile>
using ScaleRing = common::ScaleRingState<layout::GemmSmem<kTile>::kScaleSlotBytes, layout::kScaleBlocks>;

template <layout::GemmTile kTile>
MK_DEVICE ScaleRing<kTile> scale_ring(const abi::GemmParams& p, uint32_t smem) {
    using Smem = layout::GemmSmem<kTile>;
    return {smem + Smem::scales(p.num_stages, p.kind == abi::GemmOut::kBf16), Smem::num_scale_slots(p.num_stages)};
}

MK_DEVICE bool loads_scales_by_tma(const abi::GemmParams& p) {
    return p.a_scale_order != abi::ScaleOrder::kAny;
}

// Where one operand's scales lie in a slot, of `num_rows` rows: bytes from a scale to that of the next row and of the
// next block. Copies put them as rows that lie side by side, and of gated blocks, whose readers know one order alone,
// as blocks.
struct ScaleSteps {
    bool by_block;
    uint32_t row, block;

    MK_DEVICE ScaleSteps(abi::ScaleOrder order, uint32_t num_rows) {
        by_block = order == abi::ScaleOrder::kBlocks;
        row = by_block ? 4 * layout::kScaleBlocks : 4;
        block = by_block ? 4 : 4 * num_rows;
    }
};

template <layout::GemmTile kTile>
MK_DEVICE ScaleSteps scale_steps(abi::ScaleOrder order, uint32_t num_rows) {
    return ScaleSteps(kTile.is_gated ? abi::ScaleOrder::kBlocks : order, num_rows);
}

// Loads a slot's scales of one operand from `row` and block `k_block` on. One thread calls.
MK_DEVICE void load_scale_box(const abi::TensorMap& map, abi::ScaleOrder order, uint32_t destination, uint64_t* barrier,
                              uint32_t k_block, uint32_t row, uint32_t group) {
    using namespace cuda::ptx;
    const bool by_block = order == abi::ScaleOrder::kBlocks;
    const int32_t at[3] = {static_cast<int32_t>(by_block ? k_block : row),
                           static_cast<int32_t>(by_block ? row : k_block), static_cast<int32_t>(group)};
    cp_async_bulk_tensor(space_cluster, space_global, __cvta_shared_to_generic(destination), &map, at, barrier);
}

// As above, the gate's and the up-projection's, which lie apart: a dimension of its own. Blocks of K lie side by side.
MK_DEVICE void load_gated_scale_box(const abi::TensorMap& map, uint32_t destination, uint64_t* barrier,
                                    uint32_t k_block, uint32_t row, uint32_t group) {
    using namespace cuda::ptx;
    const int32_t at[4] = {static_cast<int32_t>(k_block), 0, static_cast<int32_t>(row), static_cast<int32_t>(group)};
    cp_async_bulk_tensor(space_cluster, space_global, __cvta_shared_to_generic(destination), &map, at, barrier);
}

// Loads a slot's scales of both. One thread calls.
template <layout::GemmTile kTile>
MK_DEVICE void load_scale_slot(const abi::GemmParams& p, const sched::Block& block, uint32_t k, uint32_t slot_smem,
                               uint64_t* barrier) {
    using Smem = layout::GemmSmem<kTile>;
    const uint32_t k_block = k / common::kGranK, of_b = slot_smem + Smem::kAScaleBytes;
    load_scale_box(p.a_scale_map, p.a_scale_order, slot_smem, barrier, k_block, block.row, block.a_group);
    if constexpr (kTile.is_gated)
        load_gated_scale_box(p.b_scale_map, of_b, barrier, k_block, block.column / 128, block.group);
    else
        load_scale_box(p.b_scale_map, p.b_scale_order, of_b, barrier, k_block,
                       kTile.scales_each_column ? block.column : block.column / 128, block.group);
}

// One lane's part of one operand's scales in a block: kLen of them, one a row.
template <uint32_t kLen>
struct ScaleSource {
    static constexpr uint32_t kPerLane = (kLen + 31) / 32;

    const float* data;
    uint64_t step;  // floats from one scale of this lane to its next
    uint32_t num;   // of this lane that the matrix has
    uint64_t block_stride;

    // `first` is the first scale of the block, of `end` in the matrix; from block `k_block` of K on.
    MK_DEVICE ScaleSource(const abi::ScalesIn& scales, uint32_t group, uint32_t first, uint32_t end, uint32_t k_block) {
        const uint32_t mine = first + common::lane_idx();
        data = scales.data + group * scales.group_stride + mine * scales.row_stride + k_block * scales.block_stride;
        step = 32 * scales.row_stride;
        num = mine < end ? (end - mine + 31) / 32 : 0;
        block_stride = scales.block_stride;
    }

    // Copies those of a block of K, and goes to the next block.
    MK_DEVICE void copy_to(uint32_t smem, uint32_t row_step) {
        const uint32_t lane = common::lane_idx();
#pragma unroll
        for (uint32_t i = 0; i < kPerLane; ++i) {
            const bool is_valid = i < num;
            if (kLen % 32 == 0 or lane + 32 * i < kLen)
                ptx::cp_async_ca_b32(smem + row_step * (lane + 32 * i), is_valid ? data + i * step : data, is_valid);
        }
        data += block_stride;
    }
};

template <layout::GemmTile kTile>
MK_DEVICE auto b_scale_source(const abi::GemmParams& p, const sched::Block& block, uint32_t k_block) {
    constexpr uint32_t kLen = layout::GemmSmem<kTile>::kNumBScaleRows;
    if constexpr (kTile.is_gated) {
        // The gate's, and the up-projection's.
        abi::ScalesIn halves = p.b_scales;
        halves.data += block.column / 128 * halves.row_stride;
        halves.row_stride *= p.n / 128;
        return ScaleSource<kLen>(halves, block.group, 0, block.column < p.n ? 2 : 0, k_block);
    } else if constexpr (kTile.scales_each_column)
        return ScaleSource<kLen>(p.b_scales, block.group, block.column, p.n, k_block);
    else
        return ScaleSource<kLen>(p.b_scales, block.group, block.column / 128, common::ceil_div(p.n, 128u), k_block);
}

// The role of the warp that copies scales, if TMA does not.
template <layout::GemmTile kTile, typename Scheduler, typename Ring>
MK_DEVICE void copy_scales(const abi::GemmParams& p, uint32_t smem) {
    using Smem = layout::GemmSmem<kTile>;
    Ring ring = {smem, p.num_stages};
    ScaleRing<kTile> scales = scale_ring<kTile>(p, smem);
    const ScaleSteps of_a = scale_steps<kTile>(abi::ScaleOrder::kAny, kTile.block_m);
    const ScaleSteps of_b = scale_steps<kTile>(abi::ScaleOrder::kAny, Smem::kNumBScaleRows);
    const KPart part = k_part<kTile>(p);
    const uint32_t first_block = part.begin / common::kGranK;
    sched::for_each_block<Scheduler>(p, [&](const sched::Block& block) {
        if (not block.multiplies)
            return;
        ScaleSource<kTile.block_m> a(p.a_scales, block.a_group, block.row, p.m, first_block);
        auto b = b_scale_source<kTile>(p, block, first_block);
        for (uint32_t k = part.begin; k < part.end; k += common::kGranK, ring.advance(), scales.advance()) {
            ring.wait_empty();
            a.copy_to(scales.data() + scales.block * of_a.block, of_a.row);
            b.copy_to(scales.data() + Smem::kAScaleBytes + scales.block * of_b.block, of_b.row);
            ptx::cp_async_mbarrier_arrive_noinc(ring.full());
        }
    });
}

}  // namespace moekit::kernels
