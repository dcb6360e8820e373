// Every line of inline PTX, each in a small function of its own. The emulated device re-implements the portable ones
// (emulated_ptx.h of tests/cuda_emulation); those that exist from sm_90 on stand at the end, between #if PM_NVCC.
//
// Fragments of mma.sync m16n8k16 (PTX ISA, "Matrix Fragments for mma.m16n8k16"), lane = 4·g + t:
//   A [16 × 16] row-major: a[0] = (g, 2t…2t+1), a[1] = (g+8, 2t…), a[2] = (g, 2t+8…), a[3] = (g+8, 2t+8…)
//   B [16 × 8]  col-major: b[0] = (k = 2t…2t+1, n = g), b[1] = (k = 2t+8…, n = g)
//   C [16 × 8]           : c[0], c[1] = (g, 2t…2t+1), c[2], c[3] = (g+8, 2t…2t+1)
#pragma once

#include "backend/cuda/runtime.h"

#if !PM_NVCC
#include <emulated_ptx.h>
#else

namespace pagemill::cuda::ptx {

__device__ __forceinline__ uint32_t shared_address(const void* shared) { return static_cast<uint32_t>(__cvta_generic_to_shared(shared)); }

// --- Copies from global to shared memory ---------------------------------------------------------------------------------
/// 16 bytes past L1; of them `bytes` (0 … 16) are read and the rest is zero. Both addresses are multiples of 16.
__device__ __forceinline__ void cp_async_16(void* shared, const void* global, int bytes = 16) {
  asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16, %2;" ::"r"(shared_address(shared)), "l"(global), "r"(bytes) : "memory");
}
/// The same for a run of bytes read once: L2 fetches 256 at a time.
__device__ __forceinline__ void cp_async_16_once(void* shared, const void* global, int bytes) {
  asm volatile("cp.async.cg.shared.global.L2::256B [%0], [%1], 16, %2;" ::"r"(shared_address(shared)), "l"(global), "r"(bytes) : "memory");
}
/// Closes the group of this thread's copies since the last one.
__device__ __forceinline__ void cp_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
/// Waits until at most `groups` of this thread's groups are open; its own copies are then visible to it alone.
template <int groups>
__device__ __forceinline__ void cp_async_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(groups) : "memory");
}

// --- Loads and stores -----------------------------------------------------------------------------------------------------
/// 16 bytes that another kernel has just written: past L1, which may hold what was there before.
__device__ __forceinline__ uint4 load_16(const void* global) {
  uint4 v;
  asm volatile("ld.global.cg.v4.u32 {%0, %1, %2, %3}, [%4];" : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w) : "l"(global) : "memory");
  return v;
}
/// 16 bytes that nothing in this launch writes and nobody reads again.
__device__ __forceinline__ uint4 load_16_once(const void* global) {
  uint4 v;
  asm volatile("ld.global.nc.L1::no_allocate.L2::256B.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
               : "l"(global));
  return v;
}
__device__ __forceinline__ float load_f32(const float* global) { return __ldcg(global); }
__device__ __forceinline__ int32_t load_i32(const int32_t* global) { return __ldcg(global); }
__device__ __forceinline__ void store_16(void* global, uint4 v) { *static_cast<uint4*>(global) = v; }
__device__ __forceinline__ uint4 load_shared_16(const void* shared) { return *static_cast<const uint4*>(shared); }
__device__ __forceinline__ void store_shared_16(void* shared, uint4 v) { *static_cast<uint4*>(shared) = v; }
__device__ __forceinline__ float load_shared_f32(const float* shared) { return *shared; }
__device__ __forceinline__ void store_shared_f32(float* shared, float v) { *shared = v; }
__device__ __forceinline__ void store_shared_8(float* shared, float2 v) { *reinterpret_cast<float2*>(shared) = v; }

// --- Tensor cores ---------------------------------------------------------------------------------------------------------
/// Four 8 × 8 matrices of 16-bit elements: lanes 8i … 8i+7 give the rows' addresses of matrix i; r[i] of lane 4·g + t is (g, 2t…2t+1).
__device__ __forceinline__ void ldmatrix_x4(uint32_t (&r)[4], const void* shared_row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(shared_row))
               : "memory");
}
/// The same, each matrix transposed: r[i] of lane 4·g + t is (2t…2t+1, g).
__device__ __forceinline__ void ldmatrix_x4_trans(uint32_t (&r)[4], const void* shared_row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(shared_row))
               : "memory");
}
/// c += A · B, f32 sums.
__device__ __forceinline__ void mma_16816(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], __half) {
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
               : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
__device__ __forceinline__ void mma_16816(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], __nv_bfloat16) {
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
               : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
/// 2^x by the special function unit, 2 units in the last place.
__device__ __forceinline__ float exp2_fast(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

// --- Barriers -------------------------------------------------------------------------------------------------------------
/// Barrier `id` (1 … 15) of `threads` threads of the block.
__device__ __forceinline__ void barrier_sync(int id, int threads) { asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory"); }
__device__ __forceinline__ void barrier_arrive(int id, int threads) { asm volatile("bar.arrive %0, %1;" ::"r"(id), "r"(threads) : "memory"); }

/// Ends the grid with an error: for a kernel that should not have been launched here.
__device__ __forceinline__ void trap() { asm volatile("trap;"); }

// --- Programmatic dependent launch (sm_90 on; nothing elsewhere, where a kernel starts after the one before has ended) ------------
/// Waits until the kernel ahead in the stream has ended and its writes are visible. Every block of every kernel calls it before
/// it reads or writes anything but weights, also those that have nothing to do: the kernel after relies on it.
__device__ __forceinline__ void wait_for_previous_kernel() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}
/// The kernel after may start once every block has said so (or ended).
__device__ __forceinline__ void let_next_kernel_start() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

}  // namespace pagemill::cuda::ptx
#endif

#if PM_NVCC && (!defined(__CUDA_ARCH__) || defined(__CUDA_ARCH_FEAT_SM90_ALL))
#include "backend/cuda/ptx_hopper.h"
#endif
