// A ring of stages in shared memory that loads fill and products empty, each stage with two mbarriers.
#pragma once

#include "common/macros.cuh"
#include "ptx/sync.cuh"

#include <cuda/ptx>

namespace moekit::common {

// Where one role stands in the ring. Addresses are those of shared memory.
struct RingState {
    uint32_t full_barriers, empty_barriers;
    uint32_t num_stages;
    uint32_t stage = 0;
    uint32_t parity = 0;

    MK_DEVICE uint32_t full() const { return full_barriers + 8 * stage; }
    MK_DEVICE uint32_t empty() const { return empty_barriers + 8 * stage; }

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

}  // namespace moekit::common
