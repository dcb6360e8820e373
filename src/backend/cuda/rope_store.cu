// Rotary embedding and the KV store as an op of its own (after cuBLASLt, or where the fused product does not apply), and whole-block copies.
//
// Shapes: q [rows, heads · dim], k, v [rows, kv_heads · dim] of T, each for itself or all three as columns of one product, whose biases are added here. Grid: a block per row; a thread turns 8 pairs (i, i + dim/2) or copies
// 16 values. Bytes: q read and written, k and v read once and written once to the cache. Expected: 80 % of the read bandwidth at
// prefill sizes; at decode sizes the fused product does this instead.
#include "backend/cuda/device_math.h"
#include "backend/cuda/kv_layout.h"

namespace pagemill::cuda {
namespace {

/// Eight pairs of a head at once: low[e], high[e] are dimensions i + e and i + e + half.
template <class T>
__device__ void rotate_8(float (&low)[8], float (&high)[8], const float2* angles) {
#pragma unroll
  for (int e = 0; e < 8; ++e) {
    const float2 turn = angles[e];
    const float a = low[e], b = high[e];
    low[e] = a * turn.x - b * turn.y;
    high[e] = b * turn.x + a * turn.y;
  }
}

/// q, k and v: where they come from. Chosen, not indexed: an index would move the kernel's parameters to local memory.
template <class T>
struct RopeSources {
  const T *q, *k, *v;
  const float *q_bias, *k_bias, *v_bias;
  int q_stride, kv_stride;
};

__device__ __forceinline__ void add_8(float (&x)[8], const float* bias) {
#pragma unroll
  for (int e = 0; e < 8; ++e) x[e] += bias[e];
}

template <class T>
__global__ void rope_store_kernel(const RopeSources<T> sources, T* q, const float2* angles, const int32_t* slots, unsigned char* kv, int heads,
                                  int kv_heads, int dim) {
  ptx::let_next_kernel_start();
  ptx::wait_for_previous_kernel();
  const int row = blockIdx.x, half = dim / 2, per_head = half / 8;
  const int slot = ptx::load_i32(slots + row), token = slot % kPieceTokens, block = slot / kPieceTokens;
  const float2* turns = angles + static_cast<int64_t>(row) * half;
  const int items = (heads + 2 * kv_heads) * per_head;
  for (int item = threadIdx.x; item < items; item += blockDim.x) {
    const int head = item / per_head, i = item % per_head * 8;
    const bool is_q = head < heads, is_v = head >= heads + kv_heads;
    const int local = is_q ? head : is_v ? head - heads - kv_heads : head - heads;
    const T* from = is_q ? sources.q : is_v ? sources.v : sources.k;
    from += static_cast<int64_t>(row) * (is_q ? sources.q_stride : sources.kv_stride) + local * dim;
    const float* bias = is_q ? sources.q_bias : is_v ? sources.v_bias : sources.k_bias;
    float low[8], high[8];
    uint4 first = ptx::load_16(from + i), second = ptx::load_16(from + i + half);
    if (!is_v || bias != nullptr) {
      unpack_8<T>(first, low);
      unpack_8<T>(second, high);
      if (bias != nullptr) {
        add_8(low, bias + local * dim + i);
        add_8(high, bias + local * dim + i + half);
      }
      if (!is_v) rotate_8<T>(low, high, turns + i);
      first = pack_8<T>(low);
      second = pack_8<T>(high);
    }
    if (is_q) {
      T* to = q + static_cast<int64_t>(row) * heads * dim + local * dim;
      ptx::store_16(to + i, first);
      ptx::store_16(to + i + half, second);
    } else if (slot >= 0) {
      unsigned char* piece = kv + kv_piece_offset(kv_heads, dim, block, local, is_v);
      ptx::store_16(piece + kv_chunk_offset(dim, token, i / 8), first);
      ptx::store_16(piece + kv_chunk_offset(dim, token, (i + half) / 8), second);
    }
  }
}

__global__ void copy_blocks_kernel(unsigned char* base, int64_t layer_stride, int64_t block_bytes, const int2* pairs) {
  ptx::let_next_kernel_start();
  ptx::wait_for_previous_kernel();
  const int2 pair = pairs[blockIdx.x];
  unsigned char* layer = base + blockIdx.y * layer_stride;
  for (int64_t i = static_cast<int64_t>(threadIdx.x) * 16; i < block_bytes; i += blockDim.x * 16)
    ptx::store_16(layer + pair.y * block_bytes + i, ptx::load_16(layer + pair.x * block_bytes + i));
}

}  // namespace

size_t kv_layer_block_bytes(int kv_heads, int head_dim) { return size_t{2} * kv_heads * kv_piece_bytes(head_dim); }

cudaError_t rope_store(const KernelContext& c, const RopeStoreArgs& a) {
  if (a.rows == 0) return cudaSuccess;
  if (a.kv.head_dim % 16 != 0) return cudaErrorInvalidValue;
  const int items = (a.heads + 2 * a.kv.kv_heads) * (a.kv.head_dim / 16);
  const auto threads = static_cast<unsigned>(min(512, (items + kWarp - 1) / kWarp * kWarp));
  return with_element(a.type, [&](auto t) {
    using T = decltype(t);
    const RopeSources<T> sources{static_cast<const T*>(a.q_from), static_cast<const T*>(a.k), static_cast<const T*>(a.v), a.bias[0], a.bias[1], a.bias[2],
                                 a.stride > 0 ? a.stride : a.heads * a.kv.head_dim, a.stride > 0 ? a.stride : a.kv.kv_heads * a.kv.head_dim};
    return launch(rope_store_kernel<T>, {.grid = static_cast<unsigned>(a.rows), .block = threads, .programmatic = c.programmatic}, c.stream,
                  sources, static_cast<T*>(a.q), a.angles, a.slots, static_cast<unsigned char*>(a.kv.base), a.heads, a.kv.kv_heads, a.kv.head_dim);
  });
}

cudaError_t copy_blocks(const KernelContext& c, void* base, size_t layer_stride, int layers, size_t block_bytes, const int2* pairs, int count) {
  if (count == 0) return cudaSuccess;
  return launch(copy_blocks_kernel, {.grid = {static_cast<unsigned>(count), static_cast<unsigned>(layers)}, .block = 256, .programmatic = c.programmatic},
                c.stream, static_cast<unsigned char*>(base), static_cast<int64_t>(layer_stride), static_cast<int64_t>(block_bytes), pairs);
}

}  // namespace pagemill::cuda
