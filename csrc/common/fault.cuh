// Leaves the first fault of its kind in the stream's record.
#pragma once

#include "abi/fault.h"
#include "common/macros.cuh"

namespace moekit::common {

// NOTE: one type for all accesses, and none served by the L1 cache: other SMs write the record by atomics.
using FaultWord = unsigned long long;

MK_DEVICE FaultWord* fault_word(const abi::FaultSink& sink, abi::FaultKind kind) {
    return reinterpret_cast<FaultWord*>(&sink.records[static_cast<uint32_t>(kind)].order);
}

// The order of the fault that a record holds now.
MK_DEVICE FaultWord recorded_fault(const abi::FaultSink& sink, abi::FaultKind kind) {
    return *static_cast<volatile FaultWord*>(fault_word(sink, kind));
}

MK_DEVICE FaultWord fault_order(const abi::FaultSink& sink, uint32_t position) {
    return static_cast<FaultWord>(sink.launch_idx) << 32 | position;
}

// Claims the record for `position` unless an earlier launch, or a lower position, has it. Any thread may call.
MK_DEVICE void claim_fault(const abi::FaultSink& sink, abi::FaultKind kind, uint32_t position) {
    atomicMin(fault_word(sink, kind), fault_order(sink, position));
}

// Writes what the error tells if `position` holds the record; all claims of this launch must have been made.
MK_DEVICE void explain_fault(const abi::FaultSink& sink, abi::FaultKind kind, uint32_t position, int64_t v0, int64_t v1,
                             int64_t v2) {
    if (recorded_fault(sink, kind) != fault_order(sink, position))
        return;
    int64_t* values = sink.records[static_cast<uint32_t>(kind)].values;
    values[0] = v0;
    values[1] = v1;
    values[2] = v2;
}

// Claims and explains: for a fault that one thread of the launch finds alone.
MK_DEVICE void tell_fault(const abi::FaultSink& sink, abi::FaultKind kind, uint32_t position, int64_t v0, int64_t v1,
                          int64_t v2) {
    claim_fault(sink, kind, position);
    explain_fault(sink, kind, position, v0, v1, v2);
}

}  // namespace moekit::common
