// What a matrix product for few rows computes around its sums: which weight rows stand together in a unit of 16, and what
// becomes of the sums. The units are made so that the two values that belong together (gate and up of one output, the two
// members of a rotary pair) are rows j and j + 8 of a unit: one thread holds both in every tensor core layout.
#pragma once

#include "backend/cuda/device_math.h"
#include "backend/cuda/kv_layout.h"

namespace pagemill::cuda {

inline constexpr int kUnitRows = 16;

/// Unit u: outputs 16·u … 16·u + 15.
template <class T>
struct PlainOp {
  const T* weight;        // [out_features, in]
  const float* bias;      // or null
  const T* residual;      // [rows, out_features] or null
  T* out;                 // one of the two is null
  float* out_f32;
  int in, out_features;

  __host__ __device__ int units() const { return (out_features + kUnitRows - 1) / kUnitRows; }
  __device__ const T* row(int unit, int j) const {
    return weight + static_cast<int64_t>(min(unit * kUnitRows + j, out_features - 1)) * in;
  }
  __device__ void put(int n, int m, float sum) const {
    if (n >= out_features) return;
    const int64_t at = static_cast<int64_t>(m) * out_features + n;
    if (bias != nullptr) sum += bias[n];
    if (residual != nullptr) sum += to_float(residual[at]);
    if (out_f32 != nullptr) {
      out_f32[at] = sum;
    } else {
      out[at] = from_float<T>(sum);
    }
  }
  /// Sums of rows j and j + 8 of the unit with row m of x.
  __device__ void emit(int unit, int j, int m, float low, float high) const {
    put(unit * kUnitRows + j, m, low);
    put(unit * kUnitRows + 8 + j, m, high);
  }
};

/// Unit u: gate rows 8·u … 8·u + 7, then the same rows of up.
template <class T>
struct GatedOp {
  const T *gate, *up;  // [ffn, in]
  T* out;              // [rows, ffn]
  int in, ffn;

  __host__ __device__ int units() const { return ffn / 8; }
  __device__ const T* row(int unit, int j) const {
    const int n = min(unit * 8 + j % 8, ffn - 1);
    return (j < 8 ? gate : up) + static_cast<int64_t>(n) * in;
  }
  __device__ void emit(int unit, int j, int m, float low, float high) const {
    const int n = unit * 8 + j;
    // Rounded first, as a product that stores gate and up would.
    const float gate_value = to_float(from_float<T>(low)), up_value = to_float(from_float<T>(high));
    if (n < ffn) out[static_cast<int64_t>(m) * ffn + n] = from_float<T>(to_float(from_float<T>(silu(gate_value))) * up_value);
  }
};

/// Unit u: dimensions i … i + 7 of a head and their partners half a head further, i = 8 · (u mod half/8); heads of q, then k, then v.
template <class T>
struct QkvOp {
  const T* weight[3];
  const float* bias[3];
  const float2* angles;  // [rows, half]
  const int32_t* slots;  // [rows]
  T* q;
  unsigned char* kv;
  int in, heads, kv_heads, dim;

  struct Place {
    int which, head, i;  // 0 q, 1 k, 2 v; head inside it; dimension of j = 0
  };
  __host__ __device__ Place place(int unit) const {
    const int per_head = dim / kUnitRows, head = unit / per_head, i = unit % per_head * 8;
    if (head < heads) return {0, head, i};
    return head < heads + kv_heads ? Place{1, head - heads, i} : Place{2, head - heads - kv_heads, i};
  }
  __host__ __device__ int units() const { return (heads + 2 * kv_heads) * (dim / kUnitRows); }
  __device__ const T* row(int unit, int j) const {
    const Place p = place(min(unit, units() - 1));
    // Chosen, not indexed: an index would move the kernel's parameters to local memory.
    const T* matrix = p.which == 0 ? weight[0] : p.which == 1 ? weight[1] : weight[2];
    return matrix + (static_cast<int64_t>(p.head) * dim + p.i + j % 8 + (j < 8 ? 0 : dim / 2)) * in;
  }
  __device__ void emit(int unit, int j, int m, float low, float high) const {
    if (unit >= units()) return;
    const Place p = place(unit);
    const int half = dim / 2, i = p.i + j, n = p.head * dim + i;
    const float* offsets = p.which == 0 ? bias[0] : p.which == 1 ? bias[1] : bias[2];
    if (offsets != nullptr) {
      low += offsets[n];
      high += offsets[n + half];
    }
    // Rounded before the rotation, as a product that stores q and k would.
    low = to_float(from_float<T>(low));
    high = to_float(from_float<T>(high));
    if (p.which < 2) {
      const float2 turn = angles[static_cast<int64_t>(m) * half + i];
      const float a = low, b = high;
      low = a * turn.x - b * turn.y;
      high = b * turn.x + a * turn.y;
    }
    if (p.which == 0) {
      T* to = q + static_cast<int64_t>(m) * heads * dim + n;
      to[0] = from_float<T>(low);
      to[half] = from_float<T>(high);
      return;
    }
    const int slot = ptx::load_i32(slots + m);
    if (slot < 0) return;
    unsigned char* piece = kv + kv_piece_offset(kv_heads, dim, slot / kPieceTokens, p.head, p.which - 1);
    *reinterpret_cast<T*>(piece + kv_element_offset(dim, slot % kPieceTokens, i)) = from_float<T>(low);
    *reinterpret_cast<T*>(piece + kv_element_offset(dim, slot % kPieceTokens, i + half)) = from_float<T>(high);
  }
};

}  // namespace pagemill::cuda
