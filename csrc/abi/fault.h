// Faults in values that kernels meet: clipped, recorded here, told by the next check of the stream.
#pragma once

#include <cstddef>
#include <cstdint>

namespace moekit::abi {

// What is wrong; within one launch the lower kind is told first. `values` are those of FaultRecord.
enum class FaultKind : uint32_t {
    kGateLogits = 0,        // a logit or a score is NaN; position = 2 * token, + 1 if no logit is
    kPlanCapacity = 1,      // rows were clipped; values = {needed, capacity, 1 if masked}
    kPlanIndex = 2,         // an expert out of range; position = slot, values = {expert, num_experts, -}
    kTransposeOffsets = 3,  // offsets break their rule; values = {offset, index, m}
    kPackScales = 4,      // no power of two; position in the order of tiles, values = {bits, group * 2^32 + row, block}
    kGroupedLayout = 5,   // no group; position = row, values = {group, row, num_groups}
    kGroupedOffsets = 6,  // offsets or counts break their rule; position = group, values = {value, group, m}
    kMaskedRows = 7,      // fewer rows than none; position = group, values = {rows, group, -}
};

constexpr uint32_t kNumFaultKinds = 8;

// The first fault of one kind since the last check.
struct FaultRecord {
    uint64_t order;     // launch_idx * 2^32 + position of the first fault; all bits set = none
    int64_t values[3];  // what the error tells
};
static_assert(sizeof(FaultRecord) == 32);

// Where a launch leaves its faults.
struct FaultSink {
    FaultRecord* records;  // [kNumFaultKinds], in device memory
    uint32_t launch_idx;   // ascends along the stream
    uint32_t reserved;
};
static_assert(sizeof(FaultSink) == 16);
static_assert(offsetof(FaultSink, launch_idx) == 8);

}  // namespace moekit::abi
