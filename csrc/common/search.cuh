// Searches in ascending arrays.
#pragma once

#include "common/bits.cuh"

namespace moekit::common {

// How many of the first elements are at most `value`: the position of the first that is larger.
template <typename T>
MK_DEVICE uint32_t num_at_most(const T* ascending, uint32_t len, T value) {
    uint32_t low = 0, high = len;
    while (low < high) {
        const uint32_t middle = low + (high - low) / 2;
        if (ascending[middle] <= value)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

}  // namespace moekit::common
