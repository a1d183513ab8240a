// Synchronisation that CCCL's cuda::ptx lacks.
#pragma once

#include "common/macros.cuh"

#include <cstdint>

namespace moekit::ptx {

// PTX ISA, `barrier`. Waits until `num_threads` have come to the CTA's barrier `barrier_idx`; 0 is __syncthreads.
MK_DEVICE void bar_sync(uint32_t barrier_idx, uint32_t num_threads) {
    asm volatile("bar.sync %0, %1;" ::"r"(barrier_idx), "r"(num_threads) : "memory");
}

// PTX ISA, `griddepcontrol`. Waits until the grids in front of this one have ended and their writes are seen.
MK_DEVICE void griddepcontrol_wait() {
    asm volatile("griddepcontrol.wait;" ::: "memory");
}

// PTX ISA, `griddepcontrol`. Lets the next grid start where there is room; it waits for this one's end by itself.
MK_DEVICE void griddepcontrol_launch_dependents() {
    asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
}

// PTX ISA, `prefetch.tensormap`. Fetches a tensor map, of the kernel's parameters too, before its first use.
MK_DEVICE void prefetch_tensormap(const void* map) {
    asm volatile("prefetch.tensormap [%0];" ::"l"(map) : "memory");
}

// PTX ISA, `mapa`. Where CTA `cta_rank` of the cluster has this shared address of ours.
MK_DEVICE uint32_t mapa_shared_cluster_u32(uint32_t mine, uint32_t cta_rank) {
    uint32_t peer;
    asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(peer) : "r"(mine), "r"(cta_rank));
    return peer;
}

// PTX ISA, `mbarrier.arrive`. Arrives once at a barrier of any CTA of the cluster. NOTE: release at CTA scope, the
// default, for what this thread read with its own instructions; at cluster scope it would cost a fence of the device.
MK_DEVICE void mbarrier_arrive_cluster(uint32_t shared_cluster_address) {
    asm volatile("mbarrier.arrive.shared::cluster.b64 _, [%0];" ::"r"(shared_cluster_address) : "memory");
}

// PTX ISA, `mbarrier.try_wait`. Waits until the phase of this parity has ended.
MK_DEVICE void mbarrier_wait_parity(uint32_t shared_address, uint32_t parity) {
    asm volatile(
        "{\n.reg .pred done;\nagain:\n"
        "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n@!done bra again;\n}\n" ::"r"(shared_address),
        "r"(parity)
        : "memory");
}

// The same, and what other CTAs of the cluster did before they ended it is then seen.
MK_DEVICE void mbarrier_wait_parity_cluster(uint32_t shared_address, uint32_t parity) {
    asm volatile(
        "{\n.reg .pred done;\nagain:\n"
        "mbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 done, [%0], %1;\n@!done bra again;\n}\n" ::"r"(
            shared_address),
        "r"(parity)
        : "memory");
}

// PTX ISA, `cp.async`. Copies a word to shared memory, or writes zero without reading where `is_valid` is false.
MK_DEVICE void cp_async_ca_b32(uint32_t shared_address, const void* global, bool is_valid) {
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(shared_address), "l"(global),
                 "r"(is_valid ? 4 : 0)
                 : "memory");
}

// PTX ISA, `cp.async.mbarrier.arrive`. Arrives at the barrier, which expects it, once this thread's copies are done.
MK_DEVICE void cp_async_mbarrier_arrive_noinc(uint32_t shared_address) {
    asm volatile("cp.async.mbarrier.arrive.noinc.shared::cta.b64 [%0];" ::"r"(shared_address) : "memory");
}

}  // namespace moekit::ptx
