// A ring of stages in shared memory that loads fill and products empty, each stage with two mbarriers.
#pragma once

#include "common/macros.cuh"
#include "layout/gemm_smem.cuh"
#include "ptx/sync.cuh"

#include <cuda/ptx>

namespace moekit::common {

// Where one role stands in the ring, whose stages take kStageBytes each from kFirst on. Barriers are the first in
// shared memory: full, then empty.
template <uint32_t kFirst, uint32_t kStageBytes>
struct RingState {
    uint32_t smem;
    uint32_t num_stages;
    uint32_t stage = 0;
    uint32_t parity = 0;

    static constexpr uint32_t kBytesOfStage = kStageBytes;
    static constexpr uint32_t kFull = 0, kEmpty = 8 * layout::kMaxStages;

    // Where the stage's data lie, and the first stage's.
    MK_DEVICE uint32_t data() const { return first_data() + stage * kStageBytes; }
    MK_DEVICE uint32_t first_data() const { return smem + kFirst; }

    MK_DEVICE uint32_t full() const { return smem + kFull + 8 * stage; }
    MK_DEVICE uint32_t empty() const { return smem + kEmpty + 8 * stage; }

    MK_DEVICE void wait_full() const { ptx::mbarrier_wait_parity(full(), parity); }
    // NOTE: the phase before the first counts as ended, so the first round does not wait.
    MK_DEVICE void wait_empty() const { ptx::mbarrier_wait_parity(empty(), parity ^ 1); }

    MK_DEVICE void advance() {
        if (++stage == num_stages) {
            stage = 0;
            parity ^= 1;
        }
    }
};

// Where a role stands in the ring of scales, which has kBlocks blocks of K in each of its slots.
template <uint32_t kSlotBytes, uint32_t kBlocks>
struct ScaleRingState {
    uint32_t smem;  // of the first slot
    uint32_t num_slots;
    uint32_t slot = 0;
    uint32_t block = 0;  // in the slot

    MK_DEVICE uint32_t data() const { return smem + slot * kSlotBytes; }

    MK_DEVICE void advance() {
        if (++block == kBlocks) {
            block = 0;
            if (++slot == num_slots)
                slot = 0;
        }
    }
};

}  // namespace moekit::common
