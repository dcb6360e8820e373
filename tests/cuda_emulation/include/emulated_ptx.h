// The portable functions of src/backend/cuda/ptx.h on the emulated device, by PTX's own tables. mma.cpp computes.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cmath>
#include <cstring>

#include "emulated_block.h"

namespace emulated {

struct MmaArguments {
  float* c;           // [4]
  const uint32_t* a;  // [4]
  const uint32_t* b;  // [2]
};
/// c += A · B with the fragments of mma.sync.m16n8k16 (PTX ISA, "Matrix Fragments for mma.m16n8k16").
void complete_mma_f16(void** arguments, unsigned mask);
void complete_mma_bf16(void** arguments, unsigned mask);

struct LdmatrixArguments {
  const void* row;  // what this lane's address gives: row lane % 8 of matrix lane / 8
  uint32_t* r;      // [4]
};
/// ldmatrix.x4 (PTX ISA, "Warp-level matrix load instruction: ldmatrix").
void complete_ldmatrix(void** arguments, unsigned mask);
void complete_ldmatrix_trans(void** arguments, unsigned mask);

/// A wrong alignment is a fault, as on hardware.
inline void check_aligned(const void* address, size_t alignment, Place place) {
  if (reinterpret_cast<uintptr_t>(address) % alignment != 0) fault(place, "misaligned address");
}

}  // namespace emulated

namespace pagemill::cuda::ptx {

using ::emulated::Access;
using ::emulated::Place;

inline void cp_async_16(void* shared, const void* global, int bytes = 16, PM_PLACE) {
  ::emulated::check_aligned(shared, 16, place);
  ::emulated::check_aligned(global, 16, place);
  if (bytes < 0 || bytes > 16) ::emulated::fault(place, "cp.async reads 0 to 16 bytes");
  if (bytes > 0) ::emulated::count(Access::global_read, global, bytes, place);
  ::emulated::count(Access::shared_copied, shared, 16, place);
  ::emulated::async_copy(shared, global, 16, bytes);
}
inline void cp_async_16_once(void* shared, const void* global, int bytes, PM_PLACE) { cp_async_16(shared, global, bytes, place); }
inline void cp_async_commit() { ::emulated::async_commit(); }
template <int groups>
void cp_async_wait() {
  ::emulated::async_wait(groups);
}

template <class T>
T counted_load(Access kind, const void* from, Place place) {
  ::emulated::check_aligned(from, sizeof(T), place);
  ::emulated::count(kind, from, sizeof(T), place);
  T value;
  std::memcpy(&value, from, sizeof(T));
  return value;
}
template <class T>
void counted_store(Access kind, void* to, const T& value, Place place) {
  ::emulated::check_aligned(to, sizeof(T), place);
  ::emulated::count(kind, to, sizeof(T), place);
  std::memcpy(to, &value, sizeof(T));
}
inline uint4 load_16(const void* global, PM_PLACE) { return counted_load<uint4>(Access::global_read, global, place); }
inline uint4 load_16_once(const void* global, PM_PLACE) { return counted_load<uint4>(Access::global_read, global, place); }
inline float load_f32(const float* global, PM_PLACE) { return counted_load<float>(Access::global_read, global, place); }
inline int32_t load_i32(const int32_t* global, PM_PLACE) { return counted_load<int32_t>(Access::global_read, global, place); }
inline void store_16(void* global, uint4 v, PM_PLACE) { counted_store(Access::global_write, global, v, place); }
inline uint4 load_shared_16(const void* shared, PM_PLACE) { return counted_load<uint4>(Access::shared_read, shared, place); }
inline void store_shared_16(void* shared, uint4 v, PM_PLACE) { counted_store(Access::shared_write, shared, v, place); }
inline float load_shared_f32(const float* shared, PM_PLACE) { return counted_load<float>(Access::shared_read, shared, place); }
inline void store_shared_f32(float* shared, float v, PM_PLACE) { counted_store(Access::shared_write, shared, v, place); }
inline void store_shared_8(float* shared, float2 v, PM_PLACE) { counted_store(Access::shared_write, shared, v, place); }

inline void ldmatrix_x4(uint32_t (&r)[4], const void* shared_row, PM_PLACE) {
  ::emulated::check_aligned(shared_row, 16, place);
  ::emulated::count(Access::shared_read, shared_row, 16, place);
  ::emulated::LdmatrixArguments argument{shared_row, r};
  ::emulated::warp_collective(0xffffffffu, ::emulated::complete_ldmatrix, &argument, "ldmatrix", place);
}
inline void ldmatrix_x4_trans(uint32_t (&r)[4], const void* shared_row, PM_PLACE) {
  ::emulated::check_aligned(shared_row, 16, place);
  ::emulated::count(Access::shared_read, shared_row, 16, place);
  ::emulated::LdmatrixArguments argument{shared_row, r};
  ::emulated::warp_collective(0xffffffffu, ::emulated::complete_ldmatrix_trans, &argument, "ldmatrix.trans", place);
}
inline void mma_16816(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], __half, PM_PLACE) {
  ::emulated::MmaArguments argument{c, a, b};
  ::emulated::warp_collective(0xffffffffu, ::emulated::complete_mma_f16, &argument, "mma.sync", place);
}
inline void mma_16816(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], __nv_bfloat16, PM_PLACE) {
  ::emulated::MmaArguments argument{c, a, b};
  ::emulated::warp_collective(0xffffffffu, ::emulated::complete_mma_bf16, &argument, "mma.sync", place);
}
inline float exp2_fast(float x) { return std::exp2(x); }

inline void barrier_sync(int id, int threads, PM_PLACE) { ::emulated::barrier_sync(id, threads, false, place); }
inline void barrier_arrive(int id, int threads, PM_PLACE) { ::emulated::barrier_arrive(id, threads, place); }

[[noreturn]] inline void trap(PM_PLACE) { ::emulated::fault(place, "trap"); }

// A kernel starts after the one before has ended.
inline void wait_for_previous_kernel() {}
inline void let_next_kernel_start() {}

}  // namespace pagemill::cuda::ptx
