// Which rows hold tokens. Meaning: src/moe/rows.rs.
#pragma once

#include <cstddef>
#include <cstdint>

namespace moekit::abi {

enum class RowsKind : uint32_t { kAll = 0, kPerRow = 1, kOffsets = 2, kMasked = 3 };

struct RowsParams {
    // kPerRow: INT32 [num_groups * m], negative = padding. kMasked: INT32 [num_groups], tokens of each group.
    // kOffsets: INT32 [num_experts + 1], first row of each segment, ascending. kAll: null.
    const int32_t* values;
    const int32_t* num_recv_tokens_per_expert;  // kOffsets: INT32 [num_experts], tokens of each segment
    RowsKind kind;
    uint32_t num_experts;  // kOffsets: segments
};
static_assert(sizeof(RowsParams) == 24);
static_assert(offsetof(RowsParams, kind) == 16);

}  // namespace moekit::abi
