// build: ptx=compute_90 bitwise
// Gate: routing and weights are a contract between backends. Experts of a lane at most, then any number.
#include "kernels/gate/lanes.cuh"
#include "kernels/gate/shared.cuh"

using namespace moekit;

MK_INSTANCE(gate_lanes_4, abi::GateParams, kernels::kGateLanesThreads, kernels::gate_lanes<4>)
MK_INSTANCE(gate_lanes_8, abi::GateParams, kernels::kGateLanesThreads, kernels::gate_lanes<8>)
MK_INSTANCE(gate_lanes_16, abi::GateParams, kernels::kGateLanesThreads, kernels::gate_lanes<16>)
MK_INSTANCE(gate_shared, abi::GateParams, kernels::kGateMaxThreads, kernels::gate_shared)
