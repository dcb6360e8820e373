// Inline PTX of sm_90a: wgmma and clusters. Its kernels have portable twins; nothing here is emulated.
//
// wgmma operands in shared memory are tiles of 64 elements (128 bytes) a row, 8 rows to a swizzle atom of 1,024 bytes: chunk c of
// 16 bytes of row r stands at place c ^ (r % 8). D [64 × N]: warp w of the four, lane 4·g + t, d[4·i + e]: row 16·w + g + 8·(e / 2),
// column 8·i + 2·t + e % 2.
#pragma once

#include "backend/cuda/runtime.h"

namespace pagemill::cuda::ptx {

/// Descriptor of a tile whose rows run along k (K-major): `group_bytes` from one group of 8 rows to the next.
__device__ __forceinline__ uint64_t wgmma_tile(const void* shared, uint32_t group_bytes) {
  const auto address = static_cast<uint32_t>(__cvta_generic_to_shared(shared));
  return uint64_t{(address & 0x3FFFF) >> 4} | uint64_t{1} << 16 | uint64_t{group_bytes >> 4} << 32 | uint64_t{1} << 62;
}
/// Descriptor of a tile whose rows run along n (MN-major, values): `column_bytes` from 64 elements of n to the next 64, `group_bytes`
/// from 8 rows of k to the next 8.
__device__ __forceinline__ uint64_t wgmma_tile_transposed(const void* shared, uint32_t column_bytes, uint32_t group_bytes) {
  const auto address = static_cast<uint32_t>(__cvta_generic_to_shared(shared));
  return uint64_t{(address & 0x3FFFF) >> 4} | uint64_t{column_bytes >> 4} << 16 | uint64_t{group_bytes >> 4} << 32 | uint64_t{1} << 62;
}
/// The descriptor `bytes` further on.
__device__ __forceinline__ uint64_t wgmma_advance(uint64_t tile, uint32_t bytes) { return tile + (bytes >> 4); }

__device__ __forceinline__ void wgmma_fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ __forceinline__ void wgmma_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
template <int groups>
__device__ __forceinline__ void wgmma_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(groups) : "memory");
}
/// What this thread has written to shared memory (or waited for) becomes visible to wgmma of whoever passes the next barrier.
__device__ __forceinline__ void fence_for_wgmma() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

// --- wgmma's operands: "%0, %1, …" and the registers of d, for each number of columns. PTX has no shorter way to name them -----------------
#define PM_TEN(tens) "%" tens "0, %" tens "1, %" tens "2, %" tens "3, %" tens "4, %" tens "5, %" tens "6, %" tens "7, %" tens "8, %" tens "9"
#define PM_NAMES_60 PM_TEN("") ", " PM_TEN("1") ", " PM_TEN("2") ", " PM_TEN("3") ", " PM_TEN("4") ", " PM_TEN("5")
#define PM_NAMES_16 PM_TEN("") ", %10, %11, %12, %13, %14, %15"
#define PM_NAMES_32 PM_TEN("") ", " PM_TEN("1") ", " PM_TEN("2") ", %30, %31"
#define PM_NAMES_64 PM_NAMES_60 ", %60, %61, %62, %63"
#define PM_NAMES_96 PM_NAMES_60 ", " PM_TEN("6") ", " PM_TEN("7") ", " PM_TEN("8") ", %90, %91, %92, %93, %94, %95"
#define PM_NAMES_128                                                                                                      \
  PM_NAMES_60 ", " PM_TEN("6") ", " PM_TEN("7") ", " PM_TEN("8") ", " PM_TEN("9") ", " PM_TEN("10") ", " PM_TEN("11") \
              ", %120, %121, %122, %123, %124, %125, %126, %127"
#define PM_FOUR(i) "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3])
#define PM_SIXTEEN(i) PM_FOUR(i), PM_FOUR(i + 4), PM_FOUR(i + 8), PM_FOUR(i + 12)
#define PM_REGISTERS_16 PM_SIXTEEN(0)
#define PM_REGISTERS_32 PM_REGISTERS_16, PM_SIXTEEN(16)
#define PM_REGISTERS_64 PM_REGISTERS_32, PM_SIXTEEN(32), PM_SIXTEEN(48)
#define PM_REGISTERS_96 PM_REGISTERS_64, PM_SIXTEEN(64), PM_SIXTEEN(80)
#define PM_REGISTERS_128 PM_REGISTERS_96, PM_SIXTEEN(96), PM_SIXTEEN(112)

// --- d (+)= A · Bᵀ over 16 of k, A and B in shared memory, both K-major; accumulate 0 = from zero. `a`, `b` and `p` number the operands
//     behind d's ------------------------------------------------------------------------------------------------------------------------
#define PM_WGMMA(count, columns, a_at, b_at, p_at, T, type)                                                                                  \
  __device__ __forceinline__ void wgmma(float (&d)[count], uint64_t a, uint64_t b, int accumulate, T) {                                      \
    asm volatile("{ .reg .pred p; setp.ne.b32 p, %" p_at ", 0; wgmma.mma_async.sync.aligned.m64n" columns "k16.f32." type "." type " {"      \
                 PM_NAMES_##count "}, %" a_at ", %" b_at ", p, 1, 1, 0, 0; }"                                                                \
                 : PM_REGISTERS_##count                                                                                                      \
                 : "l"(a), "l"(b), "r"(accumulate));                                                                                         \
  }
#define PM_WGMMA_OF_BOTH_TYPES(...)          \
  PM_WGMMA(__VA_ARGS__, __half, "f16")       \
  PM_WGMMA(__VA_ARGS__, __nv_bfloat16, "bf16")
PM_WGMMA_OF_BOTH_TYPES(16, "32", "16", "17", "18")
PM_WGMMA_OF_BOTH_TYPES(32, "64", "32", "33", "34")
PM_WGMMA_OF_BOTH_TYPES(64, "128", "64", "65", "66")

// --- d (+)= A · B, A fragments in registers (as mma.sync's), B transposed in shared memory --------------------------------------------
#define PM_WGMMA_A_REGISTERS(count, columns, a_at, b_at, p_at, T, type)                                                                      \
  __device__ __forceinline__ void wgmma_a_registers(float (&d)[count], const uint32_t (&a)[4], uint64_t b, int accumulate, T) {              \
    asm volatile("{ .reg .pred p; setp.ne.b32 p, %" p_at ", 0; wgmma.mma_async.sync.aligned.m64n" columns "k16.f32." type "." type " {"      \
                 PM_NAMES_##count "}, {" a_at "}, %" b_at ", p, 1, 1, 1; }"                                                                  \
                 : PM_REGISTERS_##count                                                                                                      \
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(accumulate));                                                     \
  }
PM_WGMMA_A_REGISTERS(32, "64", "%32, %33, %34, %35", "36", "37", __half, "f16")
PM_WGMMA_A_REGISTERS(32, "64", "%32, %33, %34, %35", "36", "37", __nv_bfloat16, "bf16")
PM_WGMMA_A_REGISTERS(64, "128", "%64, %65, %66, %67", "68", "69", __half, "f16")
PM_WGMMA_A_REGISTERS(64, "128", "%64, %65, %66, %67", "68", "69", __nv_bfloat16, "bf16")

// --- Bulk copies and their barriers ---------------------------------------------------------------------------------------------------
__device__ __forceinline__ uint32_t barrier_address(const uint64_t* barrier) { return static_cast<uint32_t>(__cvta_generic_to_shared(barrier)); }
/// Each phase ends after `arrivals` arrivals and the bytes that were announced. By one thread, before a __syncthreads.
__device__ __forceinline__ void mbarrier_init(uint64_t* barrier, uint32_t arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier_address(barrier)), "r"(arrivals) : "memory");
}
__device__ __forceinline__ void mbarrier_fence_init() { asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory"); }
__device__ __forceinline__ void mbarrier_arrive(uint64_t* barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier_address(barrier)) : "memory");
}
__device__ __forceinline__ void mbarrier_arrive_expecting(uint64_t* barrier, uint32_t bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier_address(barrier)), "r"(bytes) : "memory");
}
/// Waits for the end of the phase with this parity (0 for the first).
__device__ __forceinline__ void mbarrier_wait(uint64_t* barrier, uint32_t parity) {
  asm volatile(
      "{ .reg .pred done; again: mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1; @!done bra again; }" ::"r"(barrier_address(barrier)), "r"(parity)
      : "memory");
}
/// `bytes` (a multiple of 16) from global to shared memory; their arrival counts at the barrier.
__device__ __forceinline__ void bulk_copy(void* shared, const void* global, uint32_t bytes, uint64_t* barrier) {
  asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(
                   static_cast<uint32_t>(__cvta_generic_to_shared(shared))),
               "l"(global), "r"(bytes), "r"(barrier_address(barrier))
               : "memory");
}

// --- Clusters ---------------------------------------------------------------------------------------------------------------------
__device__ __forceinline__ uint32_t cluster_rank() {
  uint32_t rank;
  asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
  return rank;
}
__device__ __forceinline__ uint32_t cluster_blocks() {
  uint32_t blocks;
  asm("mov.u32 %0, %%cluster_nctarank;" : "=r"(blocks));
  return blocks;
}
__device__ __forceinline__ void cluster_arrive() { asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory"); }
__device__ __forceinline__ void cluster_wait() { asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory"); }
/// The address in shared::cluster of `shared` in the block of that rank; and a load from there.
__device__ __forceinline__ uint32_t cluster_address(const void* shared, uint32_t rank) {
  uint32_t address;
  asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(address) : "r"(static_cast<uint32_t>(__cvta_generic_to_shared(shared))), "r"(rank));
  return address;
}
__device__ __forceinline__ float load_cluster_f32(uint32_t address) {
  float x;
  asm volatile("ld.shared::cluster.f32 %0, [%1];" : "=f"(x) : "r"(address) : "memory");
  return x;
}

/// By all warps of a warpgroup; what one gives up another may take.
template <int registers>
__device__ __forceinline__ void give_up_registers() { asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(registers)); }
template <int registers>
__device__ __forceinline__ void take_registers() { asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(registers)); }

}  // namespace pagemill::cuda::ptx
