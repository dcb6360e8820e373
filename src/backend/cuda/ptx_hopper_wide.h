// Inline PTX of sm_90a for products of many rows: wgmma of 192 and 256 columns, tensor copies (TMA) to one block or to a
// cluster. Layouts as in ptx_hopper.h.
#pragma once

#include <cuda.h>

#include "backend/cuda/ptx_hopper.h"

namespace pagemill::cuda::ptx {

PM_WGMMA_OF_BOTH_TYPES(96, "192", "96", "97", "98")
PM_WGMMA_OF_BOTH_TYPES(128, "256", "128", "129", "130")

// --- Tensor copies: a box of the tensor map, from (inner, outer) elements on, to shared memory; its bytes count at the barrier ------------
__device__ __forceinline__ void tensor_copy(void* shared, const CUtensorMap& map, int inner, int outer, uint64_t* barrier) {
  asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3}], [%4];" ::"r"(
                   static_cast<uint32_t>(__cvta_generic_to_shared(shared))),
               "l"(&map), "r"(inner), "r"(outer), "r"(barrier_address(barrier))
               : "memory");
}
/// To the same place in every block of the cluster whose bit is set, where the same barrier counts.
__device__ __forceinline__ void tensor_copy_to(uint16_t blocks, void* shared, const CUtensorMap& map, int inner, int outer, uint64_t* barrier) {
  asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster [%0], [%1, {%2, %3}], [%4], %5;" ::"r"(
                   static_cast<uint32_t>(__cvta_generic_to_shared(shared))),
               "l"(&map), "r"(inner), "r"(outer), "r"(barrier_address(barrier)), "h"(blocks)
               : "memory");
}
__device__ __forceinline__ void prefetch_tensor_map(const CUtensorMap& map) { asm volatile("prefetch.tensormap [%0];" ::"l"(&map) : "memory"); }
/// At the same barrier of the cluster's block `rank`. Without a scope: one of .cluster is a fence that waits for all of the warp's memory.
__device__ __forceinline__ void mbarrier_arrive_at(uint64_t* barrier, uint32_t rank) {
  asm volatile("mbarrier.arrive.shared::cluster.b64 _, [%0];" ::"r"(cluster_address(barrier, rank)) : "memory");
}

}  // namespace pagemill::cuda::ptx
