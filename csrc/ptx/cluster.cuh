// Clusters of CTAs. CCCL's cuda::ptx has the barrier and the registers, but not mapa.
#pragma once

#include "common/macros.cuh"

#include <cuda/ptx>

namespace moekit::ptx {

// PTX ISA, `barrier.cluster`. Tells the cluster that this thread is here; `cluster_wait` must follow.
MK_DEVICE void cluster_arrive() {
    cuda::ptx::barrier_cluster_arrive(cuda::ptx::sem_release);
}

// PTX ISA, `barrier.cluster`. Waits for all threads of the cluster; what they wrote before they arrived is then seen.
MK_DEVICE void cluster_wait() {
    cuda::ptx::barrier_cluster_wait(cuda::ptx::sem_acquire);
}

MK_DEVICE void cluster_sync() {
    cluster_arrive();
    cluster_wait();
}

// Waits for all threads of the cluster, which have told it of mbarriers by `fence.mbarrier_init`, and of nothing else:
// no fence of the device.
MK_DEVICE void cluster_sync_relaxed() {
    cuda::ptx::barrier_cluster_arrive(cuda::ptx::sem_relaxed);
    cluster_wait();
}

MK_DEVICE uint32_t cluster_ctarank() {
    return cuda::ptx::get_sreg_cluster_ctarank();
}

MK_DEVICE uint32_t cluster_nctarank() {
    return cuda::ptx::get_sreg_cluster_nctarank();
}

// Of a cluster whose length is a power of two.
MK_DEVICE uint32_t cluster_len_log2() {
    return 31 - __clz(cluster_nctarank());
}

// PTX ISA, `mapa`. Where CTA `cta_rank` of the cluster has this shared variable of ours, as a generic address.
template <typename T>
MK_DEVICE const T* mapa_u64(const T* mine, uint32_t cta_rank) {
    uint64_t peer;
    asm("mapa.u64 %0, %1, %2;" : "=l"(peer) : "l"(reinterpret_cast<uint64_t>(mine)), "r"(cta_rank));
    return reinterpret_cast<const T*>(peer);
}

}  // namespace moekit::ptx
