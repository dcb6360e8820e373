// Products with weights of 16 or 32 bits: f32 rows, one f32 accumulator per output value, k ascending, whatever the tile.
//
// A group holds kFloatLanes output rows, k by k: [in][kFloatLanes] in the file's own type.
#pragma once

#include <algorithm>
#include <cstring>
#include <type_traits>

#include "backend/cpu/linear/formats.h"
#include "backend/cpu/linear/kernels.h"

namespace pagemill::linear_detail {

template <class V, DType Type>
PM_INLINE inline typename V::F load_weight(const std::byte* from) {
  if constexpr (Type == DType::f16) return V::lanes_f16(from);
  if constexpr (Type == DType::bf16) return V::lanes_bf16(from);
  if constexpr (Type == DType::f32) return V::load_f(from);
}

/// Bytes of weights that tiles of more rows ask for ahead.
inline constexpr int64_t kFloatAhead = 4096;

/// Adds the products of `count` elements. ahead: weights that are asked for meanwhile, ahead_step bytes with each element.
template <class V, DType Type, int Vectors, int Columns>
void float_tile(const std::byte* w, int64_t count, const float* x, int64_t x_stride, float* sums, const std::byte* ahead, int64_t ahead_step) {
  constexpr int kBytes = Type == DType::f32 ? 4 : 2;
  using F = typename V::F;
  F acc[Vectors * Columns];
  unroll<Vectors * Columns>([&](auto cell) PM_INLINE {
    acc[cell] = V::load_f(sums + cell / Vectors * kFloatLanes + cell % Vectors * V::kLanes);
  });
  const float* rows[Columns];
  unroll<Columns>([&](auto c) PM_INLINE { rows[c] = x + c * x_stride; });
  for (int64_t k = 0; k < count; ++k) {
    V::prefetch(ahead);
    if (ahead_step > 64) V::prefetch(ahead + 64);
    ahead += ahead_step;
    F weight[Vectors];
    unroll<Vectors>([&](auto v) PM_INLINE { weight[v] = load_weight<V, Type>(w + v * V::kLanes * kBytes); });
    unroll<Columns>([&](auto column) PM_INLINE {
      constexpr int c = column;
      const F value = V::broadcast_f(rows[c] + k);
      unroll<Vectors>([&](auto v) PM_INLINE { acc[c * Vectors + v] = V::fma(weight[v], value, acc[c * Vectors + v]); });
    });
    w += kFloatLanes * kBytes;
  }
  unroll<Vectors * Columns>([&](auto cell) PM_INLINE {
    V::store_f(sums + cell / Vectors * kFloatLanes + cell % Vectors * V::kLanes, acc[cell]);
  });
}

/// Up to kFloatColumns rows in one pass over the weights.
template <class V, DType Type, int Columns = 1>
void float_few(const std::byte* w, int64_t count, const float* x, int64_t x_stride, int64_t columns, float* sums, const std::byte* ahead, int64_t ahead_step) {
  if constexpr (Columns < V::kFloatColumns) {
    if (columns > Columns) return float_few<V, Type, Columns + 1>(w, count, x, x_stride, columns, sums, ahead, ahead_step);
  }
  float_tile<V, Type, static_cast<int>(kFloatLanes) / V::kLanes, Columns>(w, count, x, x_stride, sums, ahead, ahead_step);
}

/// All rows, tile by tile. ahead: weights that are asked for meanwhile, row_bytes with each element by every tile or, shared, by all of them together.
template <class V, DType Type, bool Shared>
void float_rows(const std::byte* w, int64_t count, const float* x, int64_t x_stride, int64_t columns, float* sums, const std::byte* ahead, int64_t row_bytes) {
  constexpr int kWide = V::kFloatWideColumns, kFew = V::kFloatColumns;
  constexpr int64_t kPasses = kFloatLanes / (2 * V::kLanes);  // of a wide tile, which has two vectors
  const int64_t all = columns;
  for (int64_t now; columns > 0; columns -= now, x += now * x_stride, sums += now * kFloatLanes) {
    const bool wide = columns >= kWide && (columns == kWide || columns > 2 * kFew);
    now = wide ? kWide : columns > kFew && columns <= 2 * kFew ? (columns + 1) / 2 : std::min<int64_t>(columns, kFew);
    const int64_t step = (Shared ? row_bytes * now / all : row_bytes) / (wide ? kPasses : 1);
    if (wide) {
      for (int64_t pass = 0; pass < kPasses; ++pass) {
        const int64_t lane = pass * 2 * V::kLanes;
        float_tile<V, Type, 2, kWide>(w + lane * (Type == DType::f32 ? 4 : 2), count, x, x_stride, sums + lane, ahead + pass * step * count, step);
      }
    } else {
      float_few<V, Type>(w, count, x, x_stride, now, sums, ahead, step);
    }
    if (Shared) ahead += step * (wide ? kPasses : 1) * count;
  }
}

template <class V, DType Type>
void float_multiply(const std::byte* group, int64_t begin, int64_t count, const float* x, int64_t x_stride, int64_t columns, float* sums) {
  constexpr int64_t kRowBytes = kFloatLanes * (Type == DType::f32 ? 4 : 2);
  const std::byte* w = group + begin * kRowBytes;
  x += begin;
  // Where a few tiles of rows read 16-bit weights they become f32 once, in pieces that the first-level cache holds beside x. More rows would have x come
  // from farther away in such short pieces, which costs more.
  constexpr int64_t kPiece = 64, kMost = 32;
  if (Type == DType::f32 || columns <= V::kFloatWideColumns || columns > kMost)
    return float_rows<V, Type, false>(w, count, x, x_stride, columns, sums, w + kFloatAhead, kRowBytes);
  alignas(64) float weights[kPiece * kFloatLanes];
  for (int64_t now; count > 0; count -= now, w += now * kRowBytes, x += now) {
    now = std::min(kPiece, count);
    for (int64_t i = 0; i < now * kFloatLanes; i += V::kLanes) V::store_f(weights + i, load_weight<V, Type>(w + i * 2));
    float_rows<V, DType::f32, true>(reinterpret_cast<const std::byte*>(weights), now, x, x_stride, columns, sums, w + now * kRowBytes, kRowBytes);
  }
}

/// Groups · Columns cells of few rows: as many streams from memory as groups.
template <class V, DType Type, int Groups, int Columns>
void float_streams_tile(const std::byte* const* groups, int64_t in, const float* x, int64_t x_stride, float* const* sums) {
  constexpr int kBytes = Type == DType::f32 ? 4 : 2, kVectors = static_cast<int>(kFloatLanes) / V::kLanes;
  using F = typename V::F;
  F acc[Groups * Columns * kVectors];
  unroll<Groups * Columns * kVectors>([&](auto cell) PM_INLINE { acc[cell] = V::zero_f(); });
  const std::byte* w[Groups];
  unroll<Groups>([&](auto g) PM_INLINE { w[g] = groups[g]; });
  const float* rows[Columns];
  unroll<Columns>([&](auto c) PM_INLINE { rows[c] = x + c * x_stride; });
  for (int64_t k = 0; k < in; ++k) {
    F value[Columns];
    unroll<Columns>([&](auto c) PM_INLINE { value[c] = V::broadcast_f(rows[c] + k); });
    unroll<Groups>([&](auto group) PM_INLINE {
      constexpr int g = group;
      unroll<kFloatLanes * kBytes / 64>([&](auto line) PM_INLINE { V::prefetch_second(w[g] + kStreamAhead / Groups + line * 64), V::prefetch(w[g] + kStreamNear + line * 64); });
      unroll<kVectors>([&](auto vector) PM_INLINE {
        constexpr int v = vector;
        const F weight = load_weight<V, Type>(w[g] + v * V::kLanes * kBytes);
        unroll<Columns>([&](auto c) PM_INLINE { acc[(g * Columns + c) * kVectors + v] = V::fma(weight, value[c], acc[(g * Columns + c) * kVectors + v]); });
      });
      w[g] += kFloatLanes * kBytes;
    });
  }
  unroll<Groups * Columns * kVectors>([&](auto cell) PM_INLINE {
    V::store_f(sums[cell / kVectors / Columns] + cell / kVectors % Columns * kFloatLanes + cell % kVectors * V::kLanes, acc[cell]);
  });
}

template <class V, DType Type, int Groups, int Columns = 1>
void float_streams(const std::byte* const* groups, int64_t in, const float* x, int64_t x_stride, int columns, float* const* sums) {
  if constexpr (Groups * (Columns + 1) <= V::kFloatColumns) {
    if (columns > Columns) return float_streams<V, Type, Groups, Columns + 1>(groups, in, x, x_stride, columns, sums);
  }
  float_streams_tile<V, Type, Groups, Columns>(groups, in, x, x_stride, sums);
}

using Halves8 = uint16_t __attribute__((vector_size(16)));
using Words4 = uint32_t __attribute__((vector_size(16)));

/// rows[i][k] → out[k][i] for 8 rows of 8 16-bit elements: three rounds of interleaving row i with row i + 4.
PM_INLINE static inline void transpose(Halves8 (&m)[8]) {
  for (int round = 0; round < 3; ++round) {
    Halves8 next[8];
    for (int i = 0; i < 4; ++i) {
      next[2 * i] = __builtin_shufflevector(m[i], m[i + 4], 0, 8, 1, 9, 2, 10, 3, 11);
      next[2 * i + 1] = __builtin_shufflevector(m[i], m[i + 4], 4, 12, 5, 13, 6, 14, 7, 15);
    }
    std::memcpy(m, next, sizeof m);
  }
}
/// The same for 4 rows of 4 32-bit elements.
PM_INLINE static inline void transpose(Words4 (&m)[4]) {
  for (int round = 0; round < 2; ++round) {
    Words4 next[4];
    for (int i = 0; i < 2; ++i) {
      next[2 * i] = __builtin_shufflevector(m[i], m[i + 2], 0, 4, 1, 5);
      next[2 * i + 1] = __builtin_shufflevector(m[i], m[i + 2], 2, 6, 3, 7);
    }
    std::memcpy(m, next, sizeof m);
  }
}

template <class V, DType Type>
size_t float_group_bytes(int64_t in) {
  return align64(static_cast<size_t>(in * kFloatLanes * (Type == DType::f32 ? 4 : 2)));
}

template <class V, DType Type>
void float_pack(const std::byte* const* rows, int64_t in, std::byte* group) {
  constexpr int64_t kBytes = Type == DType::f32 ? 4 : 2, kSide = 16 / kBytes;  // squares of 16 bytes by as many rows
  using Row = std::conditional_t<Type == DType::f32, Words4, Halves8>;
  int64_t k = 0;
  for (; k + kSide <= in; k += kSide) {
    for (int64_t lane = 0; lane < kFloatLanes; lane += kSide) {
      Row square[kSide] = {};  // rows past the end of the matrix are zeros
      for (int64_t i = 0; i < kSide; ++i)
        if (rows[lane + i] != nullptr) std::memcpy(&square[i], rows[lane + i] + k * kBytes, 16);
      transpose(square);
      for (int64_t i = 0; i < kSide; ++i) std::memcpy(group + ((k + i) * kFloatLanes + lane) * kBytes, &square[i], 16);
    }
  }
  for (; k < in; ++k)
    for (int64_t lane = 0; lane < kFloatLanes; ++lane)
      if (rows[lane] != nullptr) std::memcpy(group + (k * kFloatLanes + lane) * kBytes, rows[lane] + k * kBytes, kBytes);
}

template <class V, DType Type>
void float_dequantize(const std::byte* group, int lane, int64_t in, float* row) {
  constexpr int64_t kBytes = Type == DType::f32 ? 4 : 2;
  for (int64_t k = 0; k < in; ++k) {
    const std::byte* from = group + (k * kFloatLanes + lane) * kBytes;
    if constexpr (Type == DType::f32) {
      std::memcpy(row + k, from, 4);
    } else {
      uint16_t bits;
      std::memcpy(&bits, from, 2);
      row[k] = Type == DType::f16 ? f16_to_f32(bits) : bf16_to_f32(bits);
    }
  }
}

}  // namespace pagemill::linear_detail
