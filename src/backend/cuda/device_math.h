// Small device functions that several kernels share: 16-bit elements to and from f32, sums over a warp or a block, dispatch on
// the element type.
#pragma once

#include "backend/cuda/kernels.h"
#include "backend/cuda/ptx.h"

namespace pagemill::cuda {

inline constexpr unsigned kAllLanes = 0xFFFFFFFFu;

/// Calls f(__half{}) or f(__nv_bfloat16{}).
template <class F>
cudaError_t with_element(ElementType type, F f) {
  return type == ElementType::f16 ? f(__half{}) : f(__nv_bfloat16{});
}

template <class T>
struct PairOf;
template <>
struct PairOf<__half> { using type = __half2; };
template <>
struct PairOf<__nv_bfloat16> { using type = __nv_bfloat162; };

/// Two elements as the 32 bits that hold them (the first in the low half), and back.
template <class T>
__device__ __forceinline__ float2 unpack(uint32_t bits);
template <>
__device__ __forceinline__ float2 unpack<__half>(uint32_t bits) {
  __half2 h;
  memcpy(&h, &bits, 4);
  return __half22float2(h);
}
template <>
__device__ __forceinline__ float2 unpack<__nv_bfloat16>(uint32_t bits) {
  return make_float2(__uint_as_float(bits << 16), __uint_as_float(bits & 0xFFFF0000u));
}
template <class T>
__device__ __forceinline__ uint32_t pack(float low, float high);
template <>
__device__ __forceinline__ uint32_t pack<__half>(float low, float high) {
  const __half2 h = __floats2half2_rn(low, high);
  uint32_t bits;
  memcpy(&bits, &h, 4);
  return bits;
}
template <>
__device__ __forceinline__ uint32_t pack<__nv_bfloat16>(float low, float high) {
  const __nv_bfloat162 h = __floats2bfloat162_rn(low, high);
  uint32_t bits;
  memcpy(&bits, &h, 4);
  return bits;
}

/// Eight elements.
template <class T>
__device__ __forceinline__ void unpack_8(uint4 v, float (&x)[8]) {
  const uint32_t words[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const float2 pair = unpack<T>(words[i]);
    x[2 * i] = pair.x;
    x[2 * i + 1] = pair.y;
  }
}
template <class T>
__device__ __forceinline__ uint4 pack_8(const float (&x)[8]) {
  return make_uint4(pack<T>(x[0], x[1]), pack<T>(x[2], x[3]), pack<T>(x[4], x[5]), pack<T>(x[6], x[7]));
}

template <class T>
__device__ __forceinline__ float to_float(T x) { return static_cast<float>(x); }
template <class T>
__device__ __forceinline__ T from_float(float x) { return T(x); }

__device__ __forceinline__ float warp_sum(float x) {
#pragma unroll
  for (int distance = 16; distance > 0; distance /= 2) x += __shfl_xor_sync(kAllLanes, x, distance);
  return x;
}
/// Over a block of whole warps; everyone gets the sum. `scratch` [32] is free again after the next barrier.
__device__ __forceinline__ float block_sum(float x, float* scratch) {
  x = warp_sum(x);
  const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp, warps = blockDim.x / kWarp;
  if (lane == 0) scratch[warp] = x;
  __syncthreads();
  return warp_sum(lane < warps ? scratch[lane] : 0.0f);
}

/// x · sigmoid(x).
__device__ __forceinline__ float silu(float x) { return __fdividef(x, 1.0f + __expf(-x)); }

inline int blocks_for(int64_t items, int per_block) { return static_cast<int>((items + per_block - 1) / per_block); }

}  // namespace pagemill::cuda
