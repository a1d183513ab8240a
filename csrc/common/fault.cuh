// Leaves the first fault of its kind in the stream's record.
#pragma once

#include "abi/fault.h"
#include "common/macros.cuh"

namespace moekit::common {

MK_DEVICE uint64_t fault_order(const abi::FaultSink& sink, uint32_t position) {
    return static_cast<uint64_t>(sink.launch_idx) << 32 | position;
}

// Claims the record for `position` unless an earlier launch, or a lower position, has it. Any thread may call.
MK_DEVICE void claim_fault(const abi::FaultSink& sink, abi::FaultKind kind, uint32_t position) {
    atomicMin(reinterpret_cast<unsigned long long*>(&sink.records[static_cast<uint32_t>(kind)].order),
              fault_order(sink, position));
}

// Writes what the error tells if `position` holds the record; all claims of this launch must have been made.
MK_DEVICE void explain_fault(const abi::FaultSink& sink, abi::FaultKind kind, uint32_t position, int64_t v0, int64_t v1,
                             int64_t v2) {
    abi::FaultRecord& record = sink.records[static_cast<uint32_t>(kind)];
    if (record.order != fault_order(sink, position))
        return;
    record.values[0] = v0;
    record.values[1] = v1;
    record.values[2] = v2;
}

}  // namespace moekit::common
