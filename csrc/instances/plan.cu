// build: ptx=compute_90 bitwise
// Plan: rows, counts and offsets are a contract between backends.
#include "kernels/plan/plan.cuh"

using namespace moekit;

MK_INSTANCE(plan, abi::PlanParams, kernels::kPlanMaxThreads, kernels::plan)
