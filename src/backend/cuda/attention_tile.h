// What both attention kernels are made of: pieces of 16 keys or values in shared memory (kv_layout.h), multiplied by mma.sync.
// Scores are kept in units of log 2, so that exp2 gives the weights.
#pragma once

#include "backend/cuda/device_math.h"
#include "backend/cuda/kv_layout.h"

namespace pagemill::cuda {

inline constexpr float kMasked = -1e30f;         // below every score; finite, so that differences of two are no NaN
inline constexpr float kLog2E = 1.4426950408889634f;

/// Where a chunk of the piece's copy stands: its token, from its place.
__host__ __device__ constexpr int kv_token_of_chunk(int head_dim, int index) {
  const int W = kv_column_elems(head_dim), per_token = W / 8, per_group = head_dim;  // chunks of 8 tokens: 8 · head_dim / 8
  return index / per_group * 8 + index % (8 * per_token) / per_token;
}

/// Online softmax of the two query rows (g and g + 8) that a lane holds, and their outputs.
template <int dim>
struct Attended {
  static constexpr int kTiles = dim / 8;
  float max[2] = {kMasked, kMasked};
  float sum[2] = {0, 0};       // of this lane's columns alone until finish()
  float out[kTiles][4] = {};

  /// 16 tokens: scores of lane 4·g + t are (row g or g + 8, token 8·n + 2·t …). Rescales what was before and turns scores to weights.
  template <int tiles>
  __device__ void weigh(float (&scores)[tiles][4]) {
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      float top = max[r];
#pragma unroll
      for (int n = 0; n < tiles; ++n) top = fmaxf(top, fmaxf(scores[n][2 * r], scores[n][2 * r + 1]));
      top = fmaxf(top, __shfl_xor_sync(kAllLanes, top, 1));
      top = fmaxf(top, __shfl_xor_sync(kAllLanes, top, 2));
      const float shrink = ptx::exp2_fast(max[r] - top);
      max[r] = top;
      sum[r] *= shrink;
#pragma unroll
      for (int n = 0; n < kTiles; ++n) {
        out[n][2 * r] *= shrink;
        out[n][2 * r + 1] *= shrink;
      }
#pragma unroll
      for (int n = 0; n < tiles; ++n) {
#pragma unroll
        for (int e = 0; e < 2; ++e) {
          // Where all is masked so far, top is kMasked too and the difference 0: the token's own mask decides.
          const float score = scores[n][2 * r + e];
          const float weight = score == kMasked ? 0.0f : ptx::exp2_fast(score - top);
          scores[n][2 * r + e] = weight;
          sum[r] += weight;
        }
      }
    }
  }
  /// Sums over the four lanes of a row.
  __device__ void finish() {
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      sum[r] += __shfl_xor_sync(kAllLanes, sum[r], 1);
      sum[r] += __shfl_xor_sync(kAllLanes, sum[r], 2);
    }
  }
};

/// scores [2 tiles of 8 tokens] = q · keysᵀ of one piece; q[k16] are A fragments.
template <class T, int dim>
__device__ __forceinline__ void score_piece(const uint32_t (&q)[dim / 16][4], const unsigned char* piece, float (&scores)[2][4]) {
  const int lane = threadIdx.x % kWarp;
  // Matrices of an x4: (tokens 0-7, dims 0-7), (0-7, 8-15), (8-15, 0-7), (8-15, 8-15).
  const int token = lane % 8 + lane / 16 * 8, chunk = lane / 8 % 2;
#pragma unroll
  for (int k = 0; k < dim / 16; ++k) {
    uint32_t b[4];
    ptx::ldmatrix_x4(b, piece + kv_chunk_offset<dim>(token, 2 * k + chunk));
    ptx::mma_16816(scores[0], q[k], {b[0], b[1]}, T{});
    ptx::mma_16816(scores[1], q[k], {b[2], b[3]}, T{});
  }
}

/// out += weights · values of one piece.
template <class T, int dim>
__device__ __forceinline__ void add_values(const uint32_t (&weights)[4], const unsigned char* piece, float (&out)[dim / 8][4]) {
  const int lane = threadIdx.x % kWarp;
  // Matrices of an x4: (tokens 0-7, dims 0-7), (8-15, 0-7), (0-7, 8-15), (8-15, 8-15), each transposed.
  const int token = lane % 8 + lane / 8 % 2 * 8, chunk = lane / 16;
#pragma unroll
  for (int n = 0; n < dim / 16; ++n) {
    uint32_t b[4];
    ptx::ldmatrix_x4_trans(b, piece + kv_chunk_offset<dim>(token, 2 * n + chunk));
    ptx::mma_16816(out[2 * n], weights, {b[0], b[1]}, T{});
    ptx::mma_16816(out[2 * n + 1], weights, {b[2], b[3]}, T{});
  }
}

/// Weights of 16 tokens as the A fragment of the second product.
template <class T>
__device__ __forceinline__ void pack_weights(const float (&low)[4], const float (&high)[4], uint32_t (&a)[4]) {
  a[0] = pack<T>(low[0], low[1]);
  a[1] = pack<T>(low[2], low[3]);
  a[2] = pack<T>(high[0], high[1]);
  a[3] = pack<T>(high[2], high[3]);
}

/// A fragments of two query rows (null = zeros).
template <class T, int dim>
__device__ __forceinline__ void load_queries(const T* row_g, const T* row_g8, uint32_t (&q)[dim / 16][4]) {
  const int t = threadIdx.x % 4;
#pragma unroll
  for (int k = 0; k < dim / 16; ++k) {
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const int at = k * 16 + h * 8 + 2 * t;
      q[k][2 * h] = row_g == nullptr ? 0u : static_cast<uint32_t>(ptx::load_i32(reinterpret_cast<const int32_t*>(row_g + at)));
      q[k][2 * h + 1] = row_g8 == nullptr ? 0u : static_cast<uint32_t>(ptx::load_i32(reinterpret_cast<const int32_t*>(row_g8 + at)));
    }
  }
}

/// Tokens that a row at `position` sees: [first, position].
__host__ __device__ inline int first_seen(int position, int window) { return window > 0 ? max(0, position + 1 - window) : 0; }

}  // namespace pagemill::cuda
