// Which piece of which row a thread has, in a flat walk over a stack of rows.
#pragma once

#include "common/macros.cuh"
#include "layout/elements.cuh"

namespace moekit::sched {

struct RowPiece {
    uint32_t group, row;  // row within the group
    uint32_t unit;        // which unit of the row: a block of 128, or a piece of 16
    bool is_valid;        // false behind the last row
};

// Unit `flat_idx` of `num_groups * m` rows with `num_units` each.
MK_DEVICE RowPiece row_piece(uint32_t flat_idx, uint32_t num_groups, uint32_t m, uint32_t num_units) {
    const uint32_t flat_row = flat_idx / num_units;
    const uint32_t group = flat_row / m;
    return {group, flat_row - group * m, flat_idx - flat_row * num_units, group < num_groups};
}

}  // namespace moekit::sched
