// Bodies of attention over a vector type V (vec/): private to ops_*.cpp.
//
// Scores of M queries against a block's 16 tokens and sums of 16 elements of its values are the same product C[M, 16] (+)= A[M, k] · B[k, 16]:
// keys lie transposed in the cache, and both come out of it as f32 into a buffer that stays in the L1 cache for all queries
// of the task. M queries share each load of B and up to four such products each load of A; a sum over k is one chain of fused multiply-adds, the same
// for every tile. In bf16 weights and values are rounded once, and multiplied as pairs of positions; scores, of whose error an exponential is taken, stay
// f32.
#pragma once

#include <algorithm>
#include <limits>

#include "backend/cpu/ops/row_kernels.h"

namespace pagemill::ops {

/// C = A · B (+ C where `accumulate`), k long. B's columns lie in parts of 16: a part's rows ldb elements apart, the next part `part` elements on. Elements
/// of A and B are floats, or pairs of bf16 along k.
struct Product {
  const float* a;
  int64_t lda;
  const float* b;
  int64_t ldb, part;
  int64_t k;
  float* c;
  int64_t ldc;
  bool accumulate;
};

/// Parts that a tile takes side by side.
template <class V>
inline constexpr int32_t kPartsAtOnce = V::kProductVectors * V::kFloats / kTileColumns;

/// C's rows [row, row + M), Vectors vectors of columns. Pairs: of bf16.
template <class V, bool Pairs, int M, int Vectors>
inline void product_tile(const Product& from, int64_t row) {
  constexpr int kOfPart = kTileColumns / V::kFloats;
  const float* a = from.a + row * from.lda;
  float* const c = from.c + row * from.ldc;
  typename V::F sums[M][Vectors];
#pragma GCC unroll 16
  for (int m = 0; m < M; ++m)
#pragma GCC unroll 16
    for (int v = 0; v < Vectors; ++v) sums[m][v] = from.accumulate ? V::load(c + m * from.ldc + v * V::kFloats) : V::set(0);
  const float* b = from.b;
  for (int64_t i = 0; i < from.k; ++i, ++a, b += from.ldb) {
    typename V::F columns[Vectors];
#pragma GCC unroll 16
    for (int v = 0; v < Vectors; ++v) columns[v] = V::load(b + v / kOfPart * from.part + v % kOfPart * V::kFloats);
#pragma GCC unroll 16
    for (int m = 0; m < M; ++m) {
      const typename V::F factor = V::set(a[m * from.lda]);
#pragma GCC unroll 16
      for (int v = 0; v < Vectors; ++v) {
        if constexpr (Pairs) sums[m][v] = V::dot_pairs(sums[m][v], columns[v], factor);
        else sums[m][v] = V::fma(factor, columns[v], sums[m][v]);
      }
    }
  }
#pragma GCC unroll 16
  for (int m = 0; m < M; ++m)
#pragma GCC unroll 16
    for (int v = 0; v < Vectors; ++v) V::store(c + m * from.ldc + v * V::kFloats, sums[m][v]);
}

/// All of C's rows, six at a time at most, cut as evenly as possible: 7 as 4 + 3, not 6 + 1.
template <class V, bool Pairs, int Vectors>
inline void product_rows(int32_t rows, const Product& from) {
  constexpr int32_t kRows = 6;
  for (int32_t row = 0; row < rows;) {
    const int32_t tiles = (rows - row + kRows - 1) / kRows, count = (rows - row + tiles - 1) / tiles;
    switch (count) {
      case 1: product_tile<V, Pairs, 1, Vectors>(from, row); break;
      case 2: product_tile<V, Pairs, 2, Vectors>(from, row); break;
      case 3: product_tile<V, Pairs, 3, Vectors>(from, row); break;
      case 4: product_tile<V, Pairs, 4, Vectors>(from, row); break;
      case 5: product_tile<V, Pairs, 5, Vectors>(from, row); break;
      default: product_tile<V, Pairs, kRows, Vectors>(from, row); break;
    }
    row += count;
  }
}

/// All of C's rows and its first `parts` · 16 columns.
template <class V, bool Pairs>
inline void product(int32_t rows, int64_t parts, Product from) {
  constexpr int kOfPart = kTileColumns / V::kFloats, kWide = kPartsAtOnce<V>;
  static_assert((kWide == 1 || kWide == 4) && kWide <= kSpanBlocksAtOnce);
  while (parts > 0) {
    const int64_t now = parts >= kWide ? kWide : parts >= 2 ? 2 : 1;
    if constexpr (kWide == 4) {
      if (now == 4) product_rows<V, Pairs, 4 * kOfPart>(rows, from);
      if (now == 2) product_rows<V, Pairs, 2 * kOfPart>(rows, from);
    }
    if (now == 1) product_rows<V, Pairs, kOfPart>(rows, from);
    parts -= now;
    from.b += now * from.part;
    from.c += now * kTileColumns;
  }
}

/// n elements of 16 bits as floats; n a multiple of 16.
template <class V>
inline void widen(DType dtype, const uint16_t* from, int64_t n, float* to) {
  if (dtype == DType::f16)
    for (int64_t i = 0; i < n; i += V::kFloats) V::store(to + i, V::load_f16(from + i));
  else
    for (int64_t i = 0; i < n; i += V::kFloats) V::store(to + i, V::load_bf16(from + i));
}

/// A block's keys as [head_dim, kTileColumns] floats.
template <class V>
inline void keys_of(const SpanTask& task, const KvHeadBlock& block, float* buffer) {
  const DType dtype = task.pool->spec.dtype;
  const int64_t elements = int64_t{task.head_dim} * kTileColumns;
  if (dtype == DType::f32) {
    std::memcpy(buffer, block.keys, static_cast<size_t>(elements) * sizeof(float));
    return;
  }
  if (dtype != DType::q8_0) return widen<V>(dtype, reinterpret_cast<const uint16_t*>(block.keys), elements, buffer);
  const auto* codes = reinterpret_cast<const int8_t*>(block.keys);
  for (int32_t part = 0; part < task.head_dim / kKvScaleElems; ++part) {
    float scales[kTileColumns];
    widen<V>(DType::f16, block.key_scales + part * kTileColumns, kTileColumns, scales);
    for (int32_t i = 0; i < kKvScaleElems; ++i) {
      const int64_t at = int64_t{part * kKvScaleElems + i} * kTileColumns;
      for (int32_t t = 0; t < kTileColumns; t += V::kFloats) V::store(buffer + at + t, V::mul(V::load_i8(codes + at + t), V::load(scales + t)));
    }
  }
}

/// A block's first `tokens` values as floats, [tokens, padded_dim], elements past head_dim 0.
template <class V>
inline void values_of(const SpanTask& task, const KvHeadBlock& block, int32_t tokens, float* buffer) {
  const DType dtype = task.pool->spec.dtype;
  const int64_t dim = task.head_dim, padded = padded_dim(task.head_dim);
  if (dtype != DType::f32 && dtype != DType::q8_0 && dim == padded)
    return widen<V>(dtype, reinterpret_cast<const uint16_t*>(block.values), tokens * dim, buffer);
  for (int32_t t = 0; t < tokens; ++t) {
    float* to = buffer + t * padded;
    if (dtype == DType::f32) {
      std::memcpy(to, reinterpret_cast<const float*>(block.values) + t * dim, static_cast<size_t>(dim) * sizeof(float));
    } else if (dtype == DType::q8_0) {
      const auto* codes = reinterpret_cast<const int8_t*>(block.values) + t * dim;
      for (int64_t i = 0; i < dim; i += kKvScaleElems) {
        const typename V::F factor = V::set(f16_to_f32(block.value_scales[t * (dim / kKvScaleElems) + i / kKvScaleElems]));
        for (int64_t j = i; j < i + kKvScaleElems; j += V::kFloats) V::store(to + j, V::mul(V::load_i8(codes + j), factor));
      }
    } else {
      const auto* bits = reinterpret_cast<const uint16_t*>(block.values) + t * dim;
      for (int64_t i = 0; i < dim; ++i) to[i] = dtype == DType::f16 ? f16_to_f32(bits[i]) : bf16_to_f32(bits[i]);
    }
    for (int64_t i = dim; i < padded; ++i) to[i] = 0;
  }
}

/// A block's first `tokens` values as pairs of bf16, [tokens / 2 rounded up, padded_dim, 2]: an odd one's partner is 0.
template <class V>
inline void value_pairs_of(const SpanTask& task, const KvHeadBlock& block, int32_t tokens, float* buffer) {
  const DType dtype = task.pool->spec.dtype;
  const int64_t dim = task.head_dim, padded = padded_dim(task.head_dim);
  const auto round = [&](auto&& value) {
    for (int32_t t = 0; t < tokens; t += 2)
      for (int64_t i = 0; i < padded; i += V::kFloats) V::round_pairs(value(t * padded + i), t + 1 < tokens ? value((t + 1) * padded + i) : V::set(0), buffer + t / 2 * padded + i);
  };
  const auto* const bits = reinterpret_cast<const uint16_t*>(block.values);
  if (dim == padded && dtype == DType::f16) return round([&](int64_t at) { return V::load_f16(bits + at); });
  if (dim == padded && dtype == DType::bf16) return round([&](int64_t at) { return V::load_bf16(bits + at); });
  values_of<V>(task, block, tokens, buffer);
  round([&](int64_t at) { return V::load(buffer + at); });  // pairs lie where what they are made of has been read
}

/// The weights of Vectors · V::kFloats neighbouring positions: 2^(score − highest), added to sum one vector after the other.
template <class V, int Vectors, class Write>
inline void weigh(const float* scores, int32_t t, typename V::F highest, typename V::F& sum, Write&& write) {
  typename V::F weight[Vectors];
#pragma GCC unroll 8
  for (int i = 0; i < Vectors; ++i) weight[i] = V::sub(V::load(scores + t + i * V::kFloats), highest);
  exp2<V>(weight);
  float weights[Vectors * V::kFloats];
#pragma GCC unroll 8
  for (int i = 0; i < Vectors; ++i) {
    V::store(weights + i * V::kFloats, weight[i]);
    sum = V::add(sum, weight[i]);
  }
  for (int i = 0; i < Vectors * V::kFloats; i += kTileColumns) write(t + i, weights + i);
}

/// What one query's scores of a span are as weights: 2^(score − max) for positions [first, last), 0 for the others up to `end`, a multiple of kTileColumns.
/// Zeros change no sum, so a query's result does not depend on how far its neighbours see. write(t, weights) takes those of positions t … t + 15.
template <class V, class Write>
inline void soften(float* scores, int32_t first, int32_t last, int32_t end, float& max_out, float& sum_out, Write&& write) {
  constexpr float kNothing = -std::numeric_limits<float>::infinity();
  constexpr int kMany = 4, kFew = kTileColumns / V::kFloats;
  std::fill(scores, scores + first, kNothing);
  std::fill(scores + last, scores + end, kNothing);
  typename V::F max = V::set(kNothing);
  for (int32_t t = 0; t < end; t += V::kFloats) max = V::max(max, V::load(scores + t));
  max_out = V::highest(max);
  const typename V::F highest = V::set(max_out);
  typename V::F sum = V::set(0);
  int32_t t = 0;
  for (; t + kMany * V::kFloats <= end; t += kMany * V::kFloats) weigh<V, kMany>(scores, t, highest, sum, write);
  for (; t < end; t += kTileColumns) weigh<V, kFew>(scores, t, highest, sum, write);
  sum_out = V::sum(sum);
}

/// The parts of a task's scratch.
struct SpanBuffers {
  float* scores;  // [queries, kSpanTokens]
  float* keys;    // [up to kSpanBlocksAtOnce, head_dim, kTileColumns]
  float* values;  // [kSpanBlocksAtOnce · kBlockTokens, padded_dim]
  float* end;

  SpanBuffers(float* scratch, int32_t dim)
      : scores(scratch), keys(scores + int64_t{kQueriesByTilesMax} * kSpanTokens), values(keys + int64_t{kSpanBlocksAtOnce} * kTileColumns * dim),
        end(values + int64_t{kSpanBlocksAtOnce} * limits::kBlockTokens * padded_dim(dim)) {}
};

/// What of its span a task sees.
struct SpanBlocks {
  int32_t start;       // the span's first position
  int32_t tokens;      // from there on, that some query may see
  int32_t first, end;  // their blocks within the span
  const int32_t* table;

  explicit SpanBlocks(const SpanTask& task) : start(task.span * kSpanTokens) {
    tokens = std::clamp(task.positions[task.queries / task.queries_per_row - 1] + 1 - start, 0, kSpanTokens);
    first = first_of(task, 0) / limits::kBlockTokens;
    end = (tokens + limits::kBlockTokens - 1) / limits::kBlockTokens;
    table = task.block_table + int64_t{task.span} * (kSpanTokens / limits::kBlockTokens);
  }
  /// Positions [first_of, last_of) of the span are a query's.
  int32_t first_of(const SpanTask& task, int32_t query) const {
    return task.window == 0 ? 0 : std::clamp(task.positions[query / task.queries_per_row] + 1 - task.window - start, 0, kSpanTokens);
  }
  int32_t last_of(const SpanTask& task, int32_t query) const {
    return std::clamp(task.positions[query / task.queries_per_row] + 1 - start, 0, kSpanTokens);
  }
  KvHeadBlock head_block(const SpanTask& task, int32_t block) const { return task.pool->head_block(task.layer, table[block], task.kv_head); }
};

/// All queries' scores as weights: write(query, t, weights) for each 16 positions.
template <class V, class Write>
inline void soften_all(const SpanTask& task, const SpanBlocks& blocks, float* scores, AttentionState state, Write&& write) {
  for (int32_t query = 0; query < task.queries; ++query) {
    const int32_t first = blocks.first_of(task, query), last = blocks.last_of(task, query);
    if (first < last) {
      soften<V>(scores + int64_t{query} * kSpanTokens, first, last, blocks.end * kTileColumns, state.max[query], state.sum[query],
                [&](int32_t t, const float* weights) { write(query, t, weights); });
    } else {
      constexpr float kZeros[kTileColumns] = {};
      for (int32_t t = 0; t < blocks.end * kTileColumns; t += kTileColumns) write(query, t, kZeros);
      state.max[query] = -std::numeric_limits<float>::infinity();
      state.sum[query] = 0;
    }
  }
}

/// OpKernels::attend_span or, with Pairs, attend_span_in_bf16.
template <class V, bool Pairs>
void attend_span(const SpanTask& task, AttentionState state) {
  const int32_t dim = task.head_dim;
  const int64_t padded = padded_dim(dim);
  const SpanBuffers buffers(task.scratch, dim);
  const SpanBlocks blocks(task);

  const int64_t block_keys = int64_t{dim} * kTileColumns;
  for (int32_t block = blocks.first; block < blocks.end; block += kPartsAtOnce<V>) {
    const int32_t count = std::min(kPartsAtOnce<V>, blocks.end - block);
    for (int32_t i = 0; i < count; ++i) keys_of<V>(task, blocks.head_block(task, block + i), buffers.keys + i * block_keys);
    product<V, false>(task.queries, count, {.a = task.query, .lda = dim, .b = buffers.keys, .ldb = kTileColumns, .part = block_keys, .k = dim,
                                     .c = buffers.scores + block * kTileColumns, .ldc = kSpanTokens, .accumulate = false});
  }
  constexpr int32_t kOfElement = Pairs ? 2 : 1;  // positions
  soften_all<V>(task, blocks, buffers.scores, state, [&](int32_t query, int32_t t, const float* weights) {
    float* const to = buffers.scores + int64_t{query} * kSpanTokens + t / kOfElement;  // scores up to t + 15 have been read
    if constexpr (Pairs) V::round_sixteen(weights, to);
    else std::memcpy(to, weights, kTileColumns * sizeof(float));
  });
  bool begun = false;
  for (int32_t block = blocks.first; block < blocks.end; block += kSpanBlocksAtOnce) {
    // Only what the task's own sequence has stored: behind it lies what others left.
    const int32_t count = std::min(kSpanBlocksAtOnce * limits::kBlockTokens, blocks.tokens - block * limits::kBlockTokens);
    for (int32_t t = 0; t < count; t += limits::kBlockTokens) {
      const KvHeadBlock from = blocks.head_block(task, block + t / limits::kBlockTokens);
      const int32_t tokens = std::min(count - t, limits::kBlockTokens);
      if constexpr (Pairs) value_pairs_of<V>(task, from, tokens, buffers.values + t / 2 * padded);
      else values_of<V>(task, from, tokens, buffers.values + t * padded);
    }
    product<V, Pairs>(task.queries, padded / kTileColumns, {.a = buffers.scores + block * kTileColumns / kOfElement, .lda = kSpanTokens, .b = buffers.values, .ldb = padded, .part = kTileColumns,
                                                             .k = (count + kOfElement - 1) / kOfElement, .c = state.out, .ldc = padded, .accumulate = begun});
    begun = true;
  }
}

template <class V>
void merge(AttentionState into, AttentionState next, int32_t queries, int32_t head_dim) {
  constexpr float kNothing = -std::numeric_limits<float>::infinity();
  const int64_t padded = padded_dim(head_dim);
  for (int32_t query = 0; query < queries; ++query) {
    if (next.max[query] == kNothing) continue;
    const bool first = into.max[query] == kNothing;
    const float max = first ? next.max[query] : std::max(into.max[query], next.max[query]);
    const float keep = first ? 0.0f : std::exp2(into.max[query] - max), take = std::exp2(next.max[query] - max);
    float* to = into.out + query * padded;
    const float* from = next.out + query * padded;
    for (int64_t i = 0; i < padded; i += V::kFloats) {
      const typename V::F taken = V::mul(V::load(from + i), V::set(take));
      V::store(to + i, first ? taken : V::fma(V::load(to + i), V::set(keep), taken));
    }
    into.sum[query] = first ? next.sum[query] : into.sum[query] * keep + next.sum[query] * take;
    into.max[query] = max;
  }
}

template <class V>
void finish(const AttentionState& state, int32_t query, int32_t head_dim, float* out) {
  scale<V>(state.out + query * padded_dim(head_dim), 1.0f / state.sum[query], head_dim, out);
}

template <class V>
constexpr OpKernels make_op_kernels(Isa isa, decltype(OpKernels::attend_span) by_tiles = nullptr) {
  decltype(OpKernels::attend_span) in_bf16 = nullptr;
  if constexpr (V::kBf16Values) in_bf16 = attend_span<V, true>;
  return {.isa = isa, .add_rms_norm = add_rms_norm<V>, .add = add<V>, .silu_mul = silu_mul<V>, .rotate = rotate<V>, .store_kv = store_kv<V>,
          .scale = scale<V>, .attend_span = attend_span<V, false>, .attend_span_in_bf16 = in_bf16, .attend_span_by_tiles = by_tiles, .merge = merge<V>, .finish = finish<V>};
}

}  // namespace pagemill::ops
