// What a GPU's limits are measured with: reading memory once, and filling it with values that cost what real ones do.
//
// read_once: [bytes / 16] 16-byte loads, four in flight per thread, one xor each; 8 blocks of 256 threads per multiprocessor. Must read
// `bytes` once: expected 93 % of the datasheet's bandwidth.
// fill: [count] values of bf16 written once, the same grid; it is not timed.
#include "backend/cuda/calibrate_kernels.h"
#include "backend/cuda/device_math.h"

namespace pagemill::cuda {
namespace {

constexpr int kThreads = 256, kUnroll = 4;

__global__ void __launch_bounds__(kThreads) read_kernel(const uint4* data, int64_t count, uint32_t* sink) {
  const int64_t step = int64_t{gridDim.x} * kThreads;
  uint32_t all = 0;
  int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  for (; i + (kUnroll - 1) * step < count; i += kUnroll * step) {
    uint4 v[kUnroll];
#pragma unroll
    for (int u = 0; u < kUnroll; ++u) v[u] = ptx::load_16_once(data + i + u * step);
#pragma unroll
    for (int u = 0; u < kUnroll; ++u) all ^= v[u].x ^ v[u].y ^ v[u].z ^ v[u].w;
  }
  for (; i < count; i += step) {
    const uint4 v = ptx::load_16_once(data + i);
    all ^= v.x ^ v.y ^ v.z ^ v.w;
  }
  if (all == 0x9E3779B9u) *sink = all;  // never, but the compiler does not know
}

/// Uniform in (-1, 1).
__global__ void __launch_bounds__(kThreads) fill_kernel(__nv_bfloat16* to, int64_t count, uint32_t seed) {
  for (int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x; i < count; i += int64_t{gridDim.x} * kThreads) {
    uint32_t x = static_cast<uint32_t>(i) * 0x9E3779B9u + seed;
    x = (x ^ x >> 16) * 0x85EBCA6Bu;
    x = (x ^ x >> 13) * 0xC2B2AE35u;
    to[i] = __float2bfloat16(static_cast<float>(static_cast<int32_t>(x ^ x >> 16)) * 0x1p-31f);
  }
}

}  // namespace

cudaError_t read_once(const KernelContext& c, const void* data, int64_t bytes, uint32_t* sink) {
  return launch(read_kernel, {.grid = static_cast<unsigned>(8 * c.multiprocessors), .block = kThreads}, c.stream, static_cast<const uint4*>(data), bytes / 16, sink);
}
cudaError_t fill_bf16(const KernelContext& c, void* to, int64_t count, uint32_t seed) {
  return launch(fill_kernel, {.grid = static_cast<unsigned>(8 * c.multiprocessors), .block = kThreads}, c.stream, static_cast<__nv_bfloat16*>(to), count, seed);
}

}  // namespace pagemill::cuda
