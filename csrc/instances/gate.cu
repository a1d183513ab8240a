// build: ptx=compute_90 bitwise
// Gate: routing and weights are a contract between backends.
#include "kernels/gate.cuh"

using namespace moekit;

MK_INSTANCE(gate, abi::GateParams, kernels::kGateMaxThreads, kernels::gate)
