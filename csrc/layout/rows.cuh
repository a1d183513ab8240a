// Whether a row holds a token: src/moe/rows.rs.
#pragma once

#include "abi/rows.h"
#include "common/search.cuh"

namespace moekit::layout {

// Row `row` of group `group`, of `m` rows each.
MK_DEVICE bool has_token(const abi::RowsParams& rows, uint32_t group, uint32_t row, uint32_t m) {
    if (rows.kind == abi::RowsKind::kAll)
        return true;
    if (rows.kind == abi::RowsKind::kPerRow)
        return rows.values[static_cast<uint64_t>(group) * m + row] >= 0;
    if (rows.kind == abi::RowsKind::kMasked)
        return static_cast<int64_t>(row) < rows.values[group];

    // The last segment that starts at or before the row; behind the last offset there is none.
    const uint64_t flat = static_cast<uint64_t>(group) * m + row;
    if (flat > INT32_MAX)
        return false;
    const int32_t flat_row = static_cast<int32_t>(flat);
    const uint32_t after = common::num_at_most(rows.values, rows.num_experts + 1, flat_row);
    if (after == 0 or after > rows.num_experts)
        return false;
    return flat_row - static_cast<int64_t>(rows.values[after - 1]) < rows.num_recv_tokens_per_expert[after - 1];
}

}  // namespace moekit::layout
