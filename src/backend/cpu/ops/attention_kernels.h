// Bodies of attention over a vector type V (vec/): private to ops_*.cpp.
//
// Scores of M queries against a block's 16 tokens and sums of 16 elements of its values are the same product C[M, 16] (+)= A[M, k] · B[k, 16]:
// keys lie transposed in the cache, and both come out of it as f32 into a buffer that stays in the L1 cache for all queries
// of the task. M queries share each load of B; a sum over k is one chain of fused multiply-adds, the same for every M.
#pragma once

#include <algorithm>
#include <limits>

#include "backend/cpu/ops/row_kernels.h"

namespace pagemill::ops {

/// C[M, 16] = A[M, k] · B[k, 16] (+ C where `accumulate`). Strides in elements.
template <class V, int M>
inline void product_tile(const float* a, int64_t lda, const float* b, int64_t ldb, int64_t k, float* c, int64_t ldc, bool accumulate) {
  constexpr int kParts = kTileColumns / V::kFloats;
  typename V::F sums[M][kParts];
#pragma GCC unroll 16
  for (int m = 0; m < M; ++m)
#pragma GCC unroll 16
    for (int part = 0; part < kParts; ++part) sums[m][part] = accumulate ? V::load(c + m * ldc + part * V::kFloats) : V::set(0);
  for (int64_t i = 0; i < k; ++i) {
    typename V::F row[kParts];
#pragma GCC unroll 16
    for (int part = 0; part < kParts; ++part) row[part] = V::load(b + i * ldb + part * V::kFloats);
#pragma GCC unroll 16
    for (int m = 0; m < M; ++m) {
      const typename V::F factor = V::set(a[m * lda + i]);
#pragma GCC unroll 16
      for (int part = 0; part < kParts; ++part) sums[m][part] = V::fma(factor, row[part], sums[m][part]);
    }
  }
#pragma GCC unroll 16
  for (int m = 0; m < M; ++m)
#pragma GCC unroll 16
    for (int part = 0; part < kParts; ++part) V::store(c + m * ldc + part * V::kFloats, sums[m][part]);
}

/// All of C's rows, as many at a time as the registers hold. Rows are cut as evenly as possible: 7 as 4 + 3, not 6 + 1.
template <class V>
inline void product(int32_t rows, const float* a, int64_t lda, const float* b, int64_t ldb, int64_t k, float* c, int64_t ldc, bool accumulate) {
  constexpr int32_t kRows = V::kAccumulators * V::kFloats / kTileColumns < 1 ? 1 : V::kAccumulators * V::kFloats / kTileColumns;
  static_assert(kRows <= 12);
  for (int32_t row = 0; row < rows;) {
    const int32_t tiles = (rows - row + kRows - 1) / kRows, count = (rows - row + tiles - 1) / tiles;
    const float* from = a + row * lda;
    float* to = c + row * ldc;
    switch (count) {
      case 1: product_tile<V, 1>(from, lda, b, ldb, k, to, ldc, accumulate); break;
      case 2: product_tile<V, 2>(from, lda, b, ldb, k, to, ldc, accumulate); break;
      case 3: product_tile<V, 3>(from, lda, b, ldb, k, to, ldc, accumulate); break;
      case 4: product_tile<V, 4>(from, lda, b, ldb, k, to, ldc, accumulate); break;
      case 5: product_tile<V, 5>(from, lda, b, ldb, k, to, ldc, accumulate); break;
      case 6: product_tile<V, 6>(from, lda, b, ldb, k, to, ldc, accumulate); break;
      default:
        if constexpr (kRows > 6) {
          switch (count) {
            case 7: product_tile<V, 7>(from, lda, b, ldb, k, to, ldc, accumulate); break;
            case 8: product_tile<V, 8>(from, lda, b, ldb, k, to, ldc, accumulate); break;
            case 9: product_tile<V, 9>(from, lda, b, ldb, k, to, ldc, accumulate); break;
            case 10: product_tile<V, 10>(from, lda, b, ldb, k, to, ldc, accumulate); break;
            case 11: product_tile<V, 11>(from, lda, b, ldb, k, to, ldc, accumulate); break;
            default: product_tile<V, 12>(from, lda, b, ldb, k, to, ldc, accumulate); break;
          }
        }
        break;
    }
    row += count;
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

/// A block's keys as [head_dim, kTileColumns] floats: in place where they lie so.
template <class V>
inline const float* keys_of(const SpanTask& task, const KvHeadBlock& block, float* buffer) {
  const DType dtype = task.pool->spec.dtype;
  if (dtype == DType::f32) return reinterpret_cast<const float*>(block.keys);
  if (dtype != DType::q8_0) {
    widen<V>(dtype, reinterpret_cast<const uint16_t*>(block.keys), int64_t{task.head_dim} * kTileColumns, buffer);
    return buffer;
  }
  const auto* codes = reinterpret_cast<const int8_t*>(block.keys);
  for (int32_t part = 0; part < task.head_dim / kKvScaleElems; ++part) {
    float scales[kTileColumns];
    widen<V>(DType::f16, block.key_scales + part * kTileColumns, kTileColumns, scales);
    for (int32_t i = 0; i < kKvScaleElems; ++i) {
      const int64_t at = int64_t{part * kKvScaleElems + i} * kTileColumns;
      for (int32_t t = 0; t < kTileColumns; t += V::kFloats) V::store(buffer + at + t, V::mul(V::load_i8(codes + at + t), V::load(scales + t)));
    }
  }
  return buffer;
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

/// Turns one query's scores of a span into weights: 2^(score − max) for positions [first, last), 0 for the others up to `end`,
/// a multiple of kTileColumns. Zeros change no sum, so a query's result does not depend on how far its neighbours see.
template <class V>
inline void soften(float* scores, int32_t first, int32_t last, int32_t end, float& max_out, float& sum_out) {
  constexpr float kNothing = -std::numeric_limits<float>::infinity();
  std::fill(scores, scores + first, kNothing);
  std::fill(scores + last, scores + end, kNothing);
  typename V::F max = V::set(kNothing);
  for (int32_t t = 0; t < end; t += V::kFloats) max = V::max(max, V::load(scores + t));
  const float highest = V::highest(max);
  typename V::F sum = V::set(0);
  for (int32_t t = 0; t < end; t += V::kFloats) {
    const typename V::F weight = exp2<V>(V::sub(V::load(scores + t), V::set(highest)));
    V::store(scores + t, weight);
    sum = V::add(sum, weight);
  }
  max_out = highest;
  sum_out = V::sum(sum);
}

/// The parts of a task's scratch.
struct SpanBuffers {
  static constexpr int32_t kValueBlocks = 4;  // whose values become floats together: sums leave the registers once for 64 tokens
  float* scores;                              // [queries, kSpanTokens]
  float* keys;                                // [head_dim, kTileColumns]
  float* values;                              // [kValueBlocks · kBlockTokens, padded_dim]
  float* end;

  SpanBuffers(float* scratch, int32_t dim)
      : scores(scratch), keys(scores + int64_t{kQueriesByTilesMax} * kSpanTokens), values(keys + int64_t{kTileColumns} * dim),
        end(values + kValueBlocks * limits::kBlockTokens * padded_dim(dim)) {}
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

/// All queries' scores become weights.
template <class V>
inline void soften_all(const SpanTask& task, const SpanBlocks& blocks, float* scores, AttentionState state) {
  for (int32_t query = 0; query < task.queries; ++query) {
    const int32_t first = blocks.first_of(task, query), last = blocks.last_of(task, query);
    if (first < last) {
      soften<V>(scores + int64_t{query} * kSpanTokens, first, last, blocks.end * kTileColumns, state.max[query], state.sum[query]);
    } else {
      std::fill_n(scores + int64_t{query} * kSpanTokens, blocks.end * kTileColumns, 0.0f);
      state.max[query] = -std::numeric_limits<float>::infinity();
      state.sum[query] = 0;
    }
  }
}

template <class V>
void attend_span(const SpanTask& task, AttentionState state) {
  const int32_t dim = task.head_dim;
  const int64_t padded = padded_dim(dim);
  const SpanBuffers buffers(task.scratch, dim);
  const SpanBlocks blocks(task);

  for (int32_t block = blocks.first; block < blocks.end; ++block) {
    const float* from = keys_of<V>(task, blocks.head_block(task, block), buffers.keys);
    product<V>(task.queries, task.query, dim, from, kTileColumns, dim, buffers.scores + block * kTileColumns, kSpanTokens, false);
  }
  soften_all<V>(task, blocks, buffers.scores, state);
  bool begun = false;
  for (int32_t block = blocks.first; block < blocks.end; block += SpanBuffers::kValueBlocks) {
    // Only what the task's own sequence has stored: behind it lies what others left.
    const int32_t count = std::min(SpanBuffers::kValueBlocks * limits::kBlockTokens, blocks.tokens - block * limits::kBlockTokens);
    for (int32_t t = 0; t < count; t += limits::kBlockTokens)
      values_of<V>(task, blocks.head_block(task, block + t / limits::kBlockTokens), std::min(count - t, limits::kBlockTokens), buffers.values + t * padded);
    for (int64_t column = 0; column < padded; column += kTileColumns)
      product<V>(task.queries, buffers.scores + block * kTileColumns, kSpanTokens, buffers.values + column, padded, count, state.out + column, padded, begun);
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
  return {.isa = isa, .add_rms_norm = add_rms_norm<V>, .add = add<V>, .silu_mul = silu_mul<V>, .rotate = rotate<V>, .store_kv = store_kv<V>,
          .scale = scale<V>, .attend_span = attend_span<V>, .attend_span_by_tiles = by_tiles, .merge = merge<V>, .finish = finish<V>};
}

}  // namespace pagemill::ops
