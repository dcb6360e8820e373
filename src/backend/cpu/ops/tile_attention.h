// Attention over one span by tiles (AMX), written once over a vector type V (floats.h) and a tile type T (vec/tile_config.h): private to ops_*.cpp.
//
// Both products are tiles' of bf16 with sums in f32. Queries and keys go in as two numbers each, high + low: scores are sums of hundreds of terms whose
// error an exponential follows, and 8 bits would be too few. q · k = qh · kh + qh · kl + ql · kh, to some 16 bits. Weights and values are rounded
// once, as every operand of a product with bf16 rows is. What lies between them, the softmax, is attend_span's, in f32.
//
// A query is a row of a tile, whose sums depend on no other row; positions that it does not see have the weight 0.
#pragma once

#include "backend/cpu/ops/attention_kernels.h"
#include "backend/cpu/vec/tile_config.h"

namespace pagemill::ops {

constexpr int32_t kStepElems = 32;               // along k in one product of tiles
constexpr int64_t kTileFloats = 16 * 16;         // 1 KiB: 16 rows of 32 bf16, or of 16 pairs
constexpr int32_t kSpanSteps = kSpanTokens / kStepElems;
constexpr int32_t kSetQueries = 3 * vec::kTileRows;  // that are multiplied side by side
static_assert(kTileColumns == 16 && kQueriesByTilesMax % kSetQueries == 0);

/// 16 floats as T takes them.
template <class V>
inline auto sixteen(const float* from) {
  if constexpr (V::kFloats == 16) {
    return V::load(from);
  } else {
    struct {
      float at[16];
    } values;
    std::memcpy(&values, from, sizeof values);
    return values;
  }
}

/// What rounding 16 floats to bf16 leaves of them.
template <class V, class T>
inline void left_by_rounding(const float* from, float* to) {
  uint16_t high[16];
  T::round_bf16(from, high);
  for (int i = 0; i < 16; i += V::kFloats) V::store(to + i, V::sub(V::load(from + i), V::load_bf16(high + i)));
}

/// [16, 2 · pairs] floats with rows `stride` apart, transposed in memory: rows 2i and 2i + 1 as pairs of bf16, and (low) what that leaves of them.
template <class V, class T>
inline void round_columns(const float* rows, int64_t stride, int32_t pairs, std::byte* high, std::byte* low) {
  for (int32_t pair = 0; pair < pairs; ++pair, rows += 2 * stride) {
    T::round_pairs(sixteen<V>(rows), sixteen<V>(rows + stride), high + pair * vec::kTileRowBytes);
    if (low == nullptr) continue;
    float left[2][16];
    left_by_rounding<V, T>(rows, left[0]);
    left_by_rounding<V, T>(rows + stride, left[1]);
    T::round_pairs(sixteen<V>(left[0]), sixteen<V>(left[1]), low + pair * vec::kTileRowBytes);
  }
}

/// A task's memory behind attend_span's buffers.
struct TileScratch {
  std::byte* queries[2];  // high, low: [dim / 32][queries rounded up to 16 with zeros][32]
  std::byte* keys[2];     // of a block: [dim / 2][16][2]
  std::byte* weights;     // [queries, kSpanTokens]
  std::byte* values;      // of the span: [kSpanSteps][padded_dim / 16] tiles

  TileScratch(float* memory, int32_t dim) {
    const auto take = [&](int64_t floats) {
      auto* const at = reinterpret_cast<std::byte*>(memory);
      memory += floats;
      return at;
    };
    for (std::byte*& part : queries) part = take(int64_t{kQueriesByTilesMax} * dim / 2);
    for (std::byte*& part : keys) part = take(int64_t{kTileColumns} * dim / 2);
    weights = take(int64_t{kQueriesByTilesMax} * kSpanTokens / 2);
    values = take(int64_t{kSpanTokens} * padded_dim(dim) / 2);
  }
};

// Registers: sums of row tile r in r, its left operand in 3 + r, right operands in 6 and 7.
template <class T>
inline void configure(int32_t queries) {
  vec::TileConfig config;
  for (int r = 0; r < 3; ++r) {
    const int rows = std::clamp(queries - r * vec::kTileRows, 0, vec::kTileRows);
    if (rows == 0) continue;
    config.set(r, rows, vec::kTileRowBytes);
    config.set(3 + r, rows, vec::kTileRowBytes);
  }
  config.set(6, vec::kTileRows, vec::kTileRowBytes);
  config.set(7, vec::kTileRows, vec::kTileRowBytes);
  T::configure(config);
}

template <int N, class Body>
[[gnu::always_inline]] inline void each_of(Body&& body) {
  [&]<int... Index>(std::integer_sequence<int, Index...>) { (body(std::integral_constant<int, Index>{}), ...); }(std::make_integer_sequence<int, N>{});
}

/// scores[query][0 … 15] of one block of keys, for RowTiles tiles of queries from `first` on; rows: of all queries, whole tiles.
template <class T, int RowTiles>
inline void score_block(const TileScratch& scratch, int32_t dim, int32_t first, int32_t rows, float* scores) {
  constexpr int64_t kRowBytes = vec::kTileRowBytes;
  each_of<RowTiles>([&](auto r) { T::template zero<r>(); });
  for (int32_t step = 0; step < dim / kStepElems; ++step) {
    T::template load<6>(scratch.keys[0] + step * kTileFloats * 4, kRowBytes);
    T::template load<7>(scratch.keys[1] + step * kTileFloats * 4, kRowBytes);
    const int64_t at = (int64_t{step} * rows + first) * kRowBytes;
    each_of<RowTiles>([&](auto r) {
      T::template load<3 + r>(scratch.queries[0] + at + r * vec::kTileRows * kRowBytes, kRowBytes);
      T::template dot_bf16<r, 3 + r, 6>();
      T::template dot_bf16<r, 3 + r, 7>();
      T::template load<3 + r>(scratch.queries[1] + at + r * vec::kTileRows * kRowBytes, kRowBytes);
      T::template dot_bf16<r, 3 + r, 6>();
    });
  }
  each_of<RowTiles>([&](auto r) { T::template store<r>(scores + (first + int64_t{r} * vec::kTileRows) * kSpanTokens, kSpanTokens * sizeof(float)); });
}

/// out[query] = Σ weight · value over steps [begin, end), for the queries that are configured, from `first` on.
template <class T, int RowTiles>
inline void weigh_values(const TileScratch& scratch, int32_t first, int32_t begin, int32_t end, int64_t padded, float* out) {
  constexpr int64_t kWeightsStride = kSpanTokens * 2;
  for (int64_t column = 0; column < padded / kTileColumns; ++column) {
    each_of<RowTiles>([&](auto r) { T::template zero<r>(); });
    for (int32_t step = begin; step < end; ++step) {
      T::template load<6>(scratch.values + (step * (padded / kTileColumns) + column) * kTileFloats * 4, vec::kTileRowBytes);
      each_of<RowTiles>([&](auto r) {
        T::template load<3 + r>(scratch.weights + (first + r * vec::kTileRows) * kWeightsStride + step * kStepElems * 2, kWeightsStride);
        T::template dot_bf16<r, 3 + r, 6>();
      });
    }
    each_of<RowTiles>([&](auto r) { T::template store<r>(out + (first + r * vec::kTileRows) * padded + column * kTileColumns, padded * static_cast<int64_t>(sizeof(float))); });
  }
}

/// OpKernels::attend_span_by_tiles.
template <class V, class T>
void attend_span_by_tiles(const SpanTask& task, AttentionState state) {
  const int32_t dim = task.head_dim, queries = task.queries, rows = (queries + vec::kTileRows - 1) / vec::kTileRows * vec::kTileRows;
  const int64_t padded = padded_dim(dim);
  SpanBuffers buffers(task.scratch, dim);
  const TileScratch scratch(buffers.end, dim);
  const SpanBlocks blocks(task);

  for (int32_t query = 0; query < rows; ++query) {
    for (int32_t at = 0; at < dim; at += 16) {
      const float zeros[16] = {}, *from = query < queries ? task.query + int64_t{query} * dim + at : zeros;
      const int64_t to = (int64_t{at / kStepElems} * rows + query) * vec::kTileRowBytes + at % kStepElems * 2;
      float left[16];
      T::round_bf16(from, scratch.queries[0] + to);
      left_by_rounding<V, T>(from, left);
      T::round_bf16(left, scratch.queries[1] + to);
    }
  }
  // Calls body(first query, its tiles) for each set.
  const auto for_sets = [&](auto&& body) {
    for (int32_t first = 0; first < rows; first += kSetQueries) body(first, std::min(kSetQueries, rows - first) / vec::kTileRows);
  };
  configure<T>(kSetQueries);
  for (int32_t block = blocks.first; block < blocks.end; ++block) {
    keys_of<V>(task, blocks.head_block(task, block), buffers.keys);
    round_columns<V, T>(buffers.keys, kTileColumns, dim / 2, scratch.keys[0], scratch.keys[1]);
    for_sets([&](int32_t first, int32_t tiles) {
      const auto score = tiles == 1 ? &score_block<T, 1> : tiles == 2 ? &score_block<T, 2> : &score_block<T, 3>;
      score(scratch, dim, first, rows, buffers.scores + block * kTileColumns);
    });
  }
  soften_all<V>(task, blocks, buffers.scores, state, [&](int32_t query, int32_t t, const float* weights) { T::round_bf16(weights, scratch.weights + (int64_t{query} * kSpanTokens + t) * 2); });

  const int32_t first_step = blocks.first / 2, end_step = (blocks.end + 1) / 2;
  if (blocks.end % 2 != 0)
    for (int32_t query = 0; query < queries; ++query) std::memset(scratch.weights + (int64_t{query} * kSpanTokens + blocks.end * kTileColumns) * 2, 0, kTileColumns * 2);
  for (int32_t block = 2 * first_step; block < 2 * end_step; ++block) {
    // Half of a step's tiles. Only what the task's own sequence has stored: behind it lies what others left.
    const int32_t count = block < blocks.first ? 0 : std::clamp(blocks.tokens - block * limits::kBlockTokens, 0, limits::kBlockTokens);
    if (count > 0) values_of<V>(task, blocks.head_block(task, block), count, buffers.values);
    std::fill_n(buffers.values + count * padded, (limits::kBlockTokens - count) * padded, 0.0f);
    for (int64_t column = 0; column < padded / kTileColumns; ++column)
      round_columns<V, T>(buffers.values + column * kTileColumns, padded, kTileColumns / 2,
                          scratch.values + (block / 2 * (padded / kTileColumns) + column) * kTileFloats * 4 + block % 2 * (kTileColumns / 2) * vec::kTileRowBytes, nullptr);
  }
  for_sets([&](int32_t first, int32_t tiles) {
    if (queries - first < kSetQueries) configure<T>(queries - first);  // state.out ends with the last query
    const auto weigh = tiles == 1 ? &weigh_values<T, 1> : tiles == 2 ? &weigh_values<T, 2> : &weigh_values<T, 3>;
    weigh(scratch, first, first_step, end_step, padded, state.out);
  });
  T::release();
}

}  // namespace pagemill::ops
