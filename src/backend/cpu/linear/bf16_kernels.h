// Products with bf16 weights and rows of x rounded to bf16 (RoundedRows): the layout, and vector kernels over a vector type V of 16 lanes and the type B of
// its bf16 operations (vec/avx512_bf16.h, vec/plain_bf16.h). tile_kernels.h has those by tiles.
//
// A row's sums do not depend on the other rows: one accumulator for each, pairs of elements ascending.
#pragma once

#include <cstring>

#include "backend/cpu/linear/float_tiles.h"
#include "backend/cpu/linear/kernels.h"
#include "backend/cpu/linear/rounded_rows.h"

namespace pagemill::linear_detail {

// A group holds kFloatLanes output rows as pairs along k: [in / 2][kFloatLanes][2], in rounded up to 32 elements with zeros.

inline constexpr int64_t kPairBytes = kFloatLanes * 4;  // all lanes of one pair
static_assert(16 * kPairBytes == kRoundedStepBytes);    // 32 elements: two right operands side by side

template <class V>
size_t bf16_group_bytes(int64_t in) {
  return static_cast<size_t>((in + 31) / 32 * kRoundedStepBytes);
}

template <class V>
void bf16_pack(const std::byte* const* rows, int64_t in, std::byte* group) {
  float_pack<V, DType::f32>(rows, in / 2, group);  // a pair is moved as f32 would be
  if (in % 2 == 0) return;
  for (int64_t lane = 0; lane < kFloatLanes; ++lane)
    if (rows[lane] != nullptr) std::memcpy(group + in / 2 * kPairBytes + lane * 4, rows[lane] + (in - 1) * 2, 2);
}

template <class V>
void bf16_dequantize(const std::byte* group, int lane, int64_t in, float* row) {
  for (int64_t k = 0; k < in; ++k) {
    uint16_t bits;
    std::memcpy(&bits, group + k / 2 * kPairBytes + lane * 4 + k % 2 * 2, sizeof bits);
    row[k] = bf16_to_f32(bits);
  }
}

/// FloatKernels::round.
template <class B>
void round_tiles(const float* x, int64_t x_stride, int64_t rows, int64_t padded, int64_t cols, std::byte* to, int64_t stride, bool streamed) {
  constexpr int64_t kCols = RoundedRows::kTileCols;
  for (; cols > 0; cols -= kCols, x += kCols, to += stride * static_cast<int64_t>(RoundedRows::kTileBytes)) {
    const int64_t count = cols < kCols ? cols : kCols;
    for (int64_t row = 0; row < padded; ++row) {
      float last[kCols] = {};
      const float* from = x + row * x_stride;
      if (row >= rows || count < kCols) {
        if (row < rows) std::memcpy(last, from, static_cast<size_t>(count) * sizeof(float));
        from = last;
      }
      if (streamed) B::template round_row<true>(from, to + row * 64);
      else B::template round_row<false>(from, to + row * 64);
    }
  }
}

/// NextWeights as they are asked for: up to `lines` of each group beside a step, until none is left.
struct Ahead {
  const std::byte *first = nullptr, *second = nullptr;
  int64_t lines = 0, left = 0;

  /// In equal parts beside `steps`.
  static PM_INLINE Ahead parts_of(const NextWeights& next, int64_t steps) {
    const int64_t left = next.first == nullptr ? 0 : next.lines;
    return {next.first, next.second, (left + steps - 1) / steps, left};
  }
  /// Calls prefetch(line) for the next step's.
  template <class Prefetch>
  PM_INLINE void ask(Prefetch&& prefetch) {
    const int64_t now = left < lines ? left : lines;
    left -= now;
    for (const std::byte* end = first + 64 * now; first < end; first += 64) {
      prefetch(first);
      if (second == nullptr) continue;
      prefetch(second);
      second += 64;
    }
  }
};

/// What is asked for ahead of x, in steps, and of weights that come straight from memory, in bytes.
inline constexpr int64_t kStepsAhead = 2, kDirectAhead = 4 * kRoundedStepBytes;

/// Rows of x that a pass over the weights serves.
inline constexpr int kBf16Rows = 8;

/// Columns rows of x, `x_step` bytes from one step's tiles to the next's, by 32 output rows. Direct: the weights come from memory and are asked for ahead.
template <class V, class B, int Columns, bool Direct>
void bf16_rows(const std::byte* weights, const std::byte* x, int64_t x_step, int64_t steps, bool add, Ahead& ahead, float* sums) {
  static_assert(kFloatLanes == 2 * V::kLanes);
  constexpr int64_t kRowBytes = RoundedRows::kTileCols * 2, kPairs = RoundedRows::kTileCols / 2;
  typename V::F acc[2 * Columns];
  unroll<2 * Columns>([&](auto cell) PM_INLINE { acc[cell] = add ? V::load_f(sums + int{cell} * V::kLanes) : V::zero_f(); });
  for (; steps > 0; --steps, x += x_step) {
    if constexpr (!Direct) ahead.ask([](const std::byte* line) PM_INLINE { V::prefetch_second(line); });
    for (int64_t pair = 0; pair < kPairs; ++pair, weights += kPairBytes) {
      if constexpr (Direct) {
        V::prefetch(weights + kDirectAhead);
        V::prefetch(weights + kDirectAhead + 64);
      }
      const auto first = V::load(weights), second = V::load(weights + 64);
      unroll<Columns>([&](auto column) PM_INLINE {
        constexpr int c = column;
        const auto value = V::broadcast(x + c * kRowBytes + pair * 4);
        acc[2 * c] = B::dot_pairs(acc[2 * c], first, value);
        acc[2 * c + 1] = B::dot_pairs(acc[2 * c + 1], second, value);
      });
    }
  }
  unroll<2 * Columns>([&](auto cell) PM_INLINE { V::store_f(sums + int{cell} * V::kLanes, acc[cell]); });
}

template <class V, class B, int Columns = 1>
void bf16_rows(int count, bool direct, const std::byte* weights, const std::byte* x, int64_t x_step, int64_t steps, bool add, Ahead& ahead, float* sums) {
  if constexpr (Columns < kBf16Rows) {
    if (count > Columns) return bf16_rows<V, B, Columns + 1>(count, direct, weights, x, x_step, steps, add, ahead, sums);
  }
  (direct ? &bf16_rows<V, B, Columns, true> : &bf16_rows<V, B, Columns, false>)(weights, x, x_step, steps, add, ahead, sums);
}

/// FloatKernels::multiply_rounded by vectors.
template <class V, class B>
void bf16_multiply_rows(const std::byte* weights, int64_t steps, bool add, const std::byte* x, int64_t rows, const NextWeights& next, float* sums) {
  constexpr int64_t kRows = RoundedRows::kTileRows, kTileBytes = static_cast<int64_t>(RoundedRows::kTileBytes);
  const int64_t passes = (rows + kBf16Rows - 1) / kBf16Rows, tiles = RoundedRows::row_tiles(rows);
  Ahead ahead = Ahead::parts_of(next, passes * steps);
  for (int64_t pass = 0; pass < passes; ++pass) {
    const int64_t row = pass * kBf16Rows, left = rows - row, tile = row / kRows, pair = tile / 2 * 2;
    const std::byte* at = x + (pair * steps + tile - pair) * kTileBytes + row % kRows * RoundedRows::kTileCols * 2;
    bf16_rows<V, B>(left < kBf16Rows ? static_cast<int>(left) : kBf16Rows, passes == 1, weights, at, (pair + 1 < tiles ? 2 : 1) * kTileBytes, steps, add, ahead,
                    sums + row * kFloatLanes);
  }
}

/// Has bf16 weights multiplied by vectors with rows of bf16.
template <class V, class B>
LinearKernels with_bf16_rows(LinearKernels table) {
  table.floats[static_cast<int>(DType::bf16)] = {.group_bytes = &bf16_group_bytes<V>,
                                                 .pack = &bf16_pack<V>,
                                                 .dequantize = &bf16_dequantize<V>,
                                                 .round = &round_tiles<B>,
                                                 .multiply_rounded = &bf16_multiply_rows<V, B>,
                                                 .rows_at_once = kBf16Rows};
  return table;
}

}  // namespace pagemill::linear_detail
