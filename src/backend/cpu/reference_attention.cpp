// Rotary embedding, the KV cache and paged attention of the reference backend.
#include <algorithm>
#include <cmath>
#include <limits>

#include "backend/cpu/dot.h"
#include "backend/cpu/reference_backend.h"
#include "base/check.h"

namespace pagemill {
namespace {

float* row_of(Matrix matrix, int64_t row) { return reinterpret_cast<float*>(matrix.data) + row * matrix.cols; }

/// Rotates pairs (i, i + head_dim / 2) of every head; cosines and sines are [head_dim / 2].
void rotate(float* heads, int32_t count, int32_t head_dim, const float* cosines, const float* sines) {
  const int32_t half = head_dim / 2;
  for (int32_t head = 0; head < count; ++head) {
    float *low = heads + int64_t{head} * head_dim, *high = low + half;
    for (int32_t i = 0; i < half; ++i) {
      const float a = low[i], b = high[i];
      low[i] = a * cosines[i] - b * sines[i];
      high[i] = b * cosines[i] + a * sines[i];
    }
  }
}

/// Adds the positions [first, last) of one block to a query head's softmax: `seen_max` is the highest score so far, `sum` is
/// Σ exp(score − max) and `out` Σ exp(score − max) · value.
void attend_block(const float* query, const float* keys, const float* values, int32_t first, int32_t last, int32_t head_dim, float scale,
                  float& seen_max, float& sum, float* out) {
  float scores[limits::kBlockTokens];
  float max = seen_max;
  for (int32_t t = first; t < last; ++t) {
    scores[t] = dot(query, keys + int64_t{t} * head_dim, head_dim) * scale;
    max = std::max(max, scores[t]);
  }
  const float shrink = std::exp(seen_max - max);  // 0 for the first block
  seen_max = max;
  sum *= shrink;
  for (int32_t i = 0; i < head_dim; ++i) out[i] *= shrink;
  for (int32_t t = first; t < last; ++t) {
    const float weight = std::exp(scores[t] - max);
    sum += weight;
    const float* value = values + int64_t{t} * head_dim;
    for (int32_t i = 0; i < head_dim; ++i) out[i] += weight * value[i];
  }
}

}  // namespace

int64_t attention_scratch_floats(int32_t heads, int32_t head_dim) {
  return int64_t{2} * limits::kBlockTokens * head_dim + 2 * int64_t{heads} + head_dim;
}

void ReferenceBackend::rope_store(const StepInputs& step, const AttentionShape& shape, const RopeTable& rope, Matrix q, Matrix k,
                                  Matrix v, KvView kv) {
  auto& pool = static_cast<CpuKvPool&>(*kv.pool);
  const int32_t dim = shape.head_dim, half = dim / 2;
  PM_CHECK(static_cast<int32_t>(rope.inv_freq.size()) == half && pool.spec.head_dim == dim && pool.spec.kv_heads == shape.kv_heads);
  PM_CHECK(q.cols == int64_t{shape.heads} * dim && k.cols == int64_t{shape.kv_heads} * dim && v.cols == k.cols);
  const int32_t group = pool.spec.group_of_layer[static_cast<size_t>(shape.layer)];
  const std::span<const int32_t> slots = step.group[group].slots;
  pool_.run_ranges("rope, store", step.shape.rows, 1, [&](int64_t begin, int64_t end, int thread) {
    float* cosines = scratch(thread, dim);
    float* sines = cosines + half;
    for (int64_t row = begin; row < end; ++row) {
      const int32_t position = step.positions[static_cast<size_t>(row)];
      if (position < 0) continue;
      for (int32_t i = 0; i < half; ++i) {
        const float angle = static_cast<float>(position) * rope.inv_freq[static_cast<size_t>(i)];  // in f32, as HF computes it
        cosines[i] = std::cos(angle) * rope.scale;
        sines[i] = std::sin(angle) * rope.scale;
      }
      rotate(row_of(q, row), shape.heads, dim, cosines, sines);
      rotate(row_of(k, row), shape.kv_heads, dim, cosines, sines);
      const int32_t slot = slots[static_cast<size_t>(row)];
      if (slot < 0) continue;
      for (int32_t head = 0; head < shape.kv_heads; ++head)
        pool.store(shape.layer, slot, head, row_of(k, row) + int64_t{head} * dim, row_of(v, row) + int64_t{head} * dim);
    }
  });
}

void ReferenceBackend::attention(const StepInputs& step, const AttentionShape& shape, Matrix q, KvView kv, Matrix out) {
  const auto& pool = static_cast<const CpuKvPool&>(*kv.pool);
  const int32_t dim = shape.head_dim, queries = shape.heads / shape.kv_heads;
  PM_CHECK(q.cols == int64_t{shape.heads} * dim && out.cols == q.cols && pool.spec.head_dim == dim);
  const int32_t group = pool.spec.group_of_layer[static_cast<size_t>(shape.layer)];
  const GroupTables& tables = step.group[group];
  pool_.run("attention", int64_t{step.shape.rows} * shape.kv_heads, [&](int64_t task, int thread) {
    const int64_t row = task / shape.kv_heads;
    const auto kv_head = static_cast<int32_t>(task % shape.kv_heads);
    const int32_t position = step.positions[static_cast<size_t>(row)];
    if (position < 0) return;
    float* keys = scratch(thread, attention_scratch_floats(shape.heads, dim));  // [kBlockTokens, head_dim]
    float* values = keys + int64_t{limits::kBlockTokens} * dim;                 // [kBlockTokens, head_dim]
    float* max = values + int64_t{limits::kBlockTokens} * dim;                  // [queries]
    float* sum = max + queries;                                                 // [queries]
    const float* query = row_of(q, row) + int64_t{kv_head} * queries * dim;
    float* result = row_of(out, row) + int64_t{kv_head} * queries * dim;
    std::fill_n(max, queries, -std::numeric_limits<float>::infinity());
    std::fill_n(sum, queries, 0.0f);
    std::fill_n(result, int64_t{queries} * dim, 0.0f);

    const int32_t end = position + 1, begin = shape.window > 0 ? std::max(0, end - shape.window) : 0;
    const int32_t* table = tables.block_table.data() + int64_t{step.seq_of_row[static_cast<size_t>(row)]} * tables.stride;
    for (int32_t block = begin / limits::kBlockTokens; block * limits::kBlockTokens < end; ++block) {
      const int32_t start = block * limits::kBlockTokens;
      const int32_t first = std::max(begin - start, 0), last = std::min(end - start, limits::kBlockTokens);
      pool.load(shape.layer, table[block], kv_head, last, keys, values);
      for (int32_t i = 0; i < queries; ++i)
        attend_block(query + int64_t{i} * dim, keys, values, first, last, dim, shape.scale, max[i], sum[i], result + int64_t{i} * dim);
    }
    for (int32_t i = 0; i < queries; ++i)
      for (int32_t d = 0; d < dim; ++d) result[int64_t{i} * dim + d] /= sum[i];
  });
}

}  // namespace pagemill
