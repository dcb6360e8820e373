// Rotary embedding, the KV cache and paged attention of the CPU backend.
//
// The work is cut into tiles of consecutive query rows of one sequence; a tile and a KV head are a task, whose queries (rows × heads
// that share the KV head) see each key and value of the cache once. Where there are too few tasks for the threads (a few long
// sequences decoding), each span of the context becomes a task of its own and a second phase merges the spans in order: the
// same sums as when one task does them, so nothing depends on how the work was cut.
#include <algorithm>
#include <cmath>
#include <limits>

#include "backend/cpu/cpu_backend.h"
#include "base/check.h"

namespace pagemill {
namespace {

constexpr float kLog2E = 1.44269504f;
constexpr int64_t kTasksPerThread = 3;                        // fewer: spans become tasks
constexpr int64_t kPartialFloats = int64_t{4} << 20;          // room for the spans' states, at least
constexpr int64_t kLargeTasksPerThread = 4;                   // fewer: tasks are of half the size, so that threads end together
constexpr int32_t kTileRowsMin = 16;                          // of a sequence; fewer do not pay for its keys and values as pairs of bf16

float* row_of(Matrix matrix, int64_t row) { return reinterpret_cast<float*>(matrix.data) + row * matrix.cols; }

int64_t state_floats(int32_t queries, int32_t head_dim) { return queries * (2 + padded_dim(head_dim)); }

AttentionState state_at(float* memory, int32_t queries) { return {memory, memory + queries, memory + 2 * int64_t{queries}}; }

}  // namespace

struct CpuBackend::AttentionCall {
  const StepInputs& step;
  const AttentionShape& shape;
  const CpuKvPool& pool;
  const GroupTables& tables;
  Matrix q, out;
  RowForms forms;                // of `out`; empty where heads and blocks of 32 do not line up
  bool by_tiles = false;         // for sequences with kTileRowsMin rows or more
  int32_t queries = 0;           // of a task, at most
  int32_t queries_by_tiles = 0;  // the same by tiles
  int32_t group_heads = 0;       // query heads of a KV head
  int32_t parts = 1;             // pieces that they are cut into where they are more than half of kQueriesMax
  int32_t part_heads = 0;        // heads of a piece

  int32_t heads_of(int32_t part) const { return std::min(part_heads, group_heads - part % parts * part_heads); }
  int32_t kv_head_of(int32_t part) const { return part / parts; }
  /// The first query head of piece `part` of [kv_heads · parts].
  int32_t first_head_of(int32_t part) const { return kv_head_of(part) * group_heads + part % parts * part_heads; }
};

CpuBackend::ScratchSizes CpuBackend::scratch_sizes(const StepShape& largest, int32_t heads, int32_t head_dim, int32_t ffn) {
  const int64_t cols = std::max<int64_t>(ffn, int64_t{heads} * head_dim);
  const int64_t spans = largest.context_max / kSpanTokens + 1;
  return {.rows = std::max(largest.rows, largest.logit_rows),
          .cols = (cols + QuantizedRows::kBlock - 1) / QuantizedRows::kBlock * QuantizedRows::kBlock,
          .thread_floats = span_scratch_floats(head_dim) + int64_t{kQueriesByTilesMax} * head_dim + 2 * state_floats(kQueriesByTilesMax, head_dim),
          .partial_floats = std::max(kPartialFloats, spans * state_floats(heads, head_dim)),
          .rotation_floats = int64_t{largest.rows} * head_dim};
}

size_t CpuBackend::scratch_bytes(const StepShape& largest, int32_t heads, int32_t head_dim, int32_t ffn, int32_t vocab) const {
  const ScratchSizes sizes = scratch_sizes(largest, heads, head_dim, ffn);
  const int64_t floats = sizes.thread_floats * pool_.threads() + sizes.partial_floats + sizes.rotation_floats;
  const int64_t rounded_cols = matrices_.floats[static_cast<int>(DType::bf16)].round == nullptr ? 0 : sizes.cols;
  return Backend::scratch_bytes(largest, heads, head_dim, ffn, vocab) + RowCache::bytes(form_sizes(sizes.rows, sizes.cols, rounded_cols)) + static_cast<size_t>(floats) * sizeof(float);
}

Result<void> CpuBackend::reserve_scratch(const StepShape& largest, int32_t heads, int32_t head_dim, int32_t ffn, int32_t vocab) {
  const ScratchSizes sizes = scratch_sizes(largest, heads, head_dim, ffn);
  rows_max_ = std::max(rows_max_, sizes.rows);
  PM_TRY(reserve_forms());
  thread_stride_ = std::max(thread_stride_, sizes.thread_floats);
  PM_TRY(reserve_floats(thread_floats_, thread_stride_ * pool_.threads(), "attention"));
  PM_TRY(reserve_floats(partials_, sizes.partial_floats, "attention over long contexts"));
  PM_TRY(reserve_floats(rotations_, sizes.rotation_floats, "rotary embedding"));
  rotated_positions_.reserve(static_cast<size_t>(largest.rows));
  tiles_.reserve(static_cast<size_t>(largest.rows));
  sampler_.reserve(largest.logit_rows, vocab);
  return {};
}

/// Cosines and sines of the step's rows, computed once for all layers.   [rows, head_dim]
const float* CpuBackend::rotations(const StepInputs& step, const RopeTable& rope) {
  const int64_t half = static_cast<int64_t>(rope.inv_freq.size());
  float* table = rotations_->floats();
  if (rotated_by_ == &rope && std::equal(step.positions.begin(), step.positions.end(), rotated_positions_.begin(), rotated_positions_.end())) return table;
  PM_CHECK(rotations_->size_bytes() >= step.positions.size() * static_cast<size_t>(2 * half) * sizeof(float), "reserve_scratch was not called, or for smaller steps");
  rotated_by_ = &rope;
  rotated_positions_.assign(step.positions.begin(), step.positions.end());
  pool_.run_ranges("rotations", step.shape.rows, 4, [&](int64_t begin, int64_t end, int) {
    for (int64_t row = begin; row < end; ++row) {
      float *cosines = table + row * 2 * half, *sines = cosines + half;
      for (int64_t i = 0; i < half; ++i) {
        const float angle = static_cast<float>(step.positions[static_cast<size_t>(row)]) * rope.inv_freq[static_cast<size_t>(i)];  // in f32, as HF computes it
        cosines[i] = std::cos(angle) * rope.scale;
        sines[i] = std::sin(angle) * rope.scale;
      }
    }
  });
  return table;
}

void CpuBackend::rope_store(const StepInputs& step, const AttentionShape& shape, const RopeTable& rope, Matrix q, Matrix k, Matrix v,
                            KvView kv) {
  const auto& pool = static_cast<const CpuKvPool&>(*kv.pool);
  const int32_t dim = shape.head_dim;
  PM_CHECK(static_cast<int32_t>(rope.inv_freq.size()) == dim / 2 && pool.spec.head_dim == dim && pool.spec.kv_heads == shape.kv_heads);
  PM_CHECK(q.cols == int64_t{shape.heads} * dim && k.cols == int64_t{shape.kv_heads} * dim && v.cols == k.cols);
  const int32_t group = pool.spec.group_of_layer[static_cast<size_t>(shape.layer)];
  const std::span<const int32_t> slots = step.group[group].slots;
  const float* table = rotations(step, rope);
  row_cache_.forget(q);
  row_cache_.forget(k);
  pool_.run_ranges("rope, store", step.shape.rows, 2, [&](int64_t begin, int64_t end, int) {
    for (int64_t row = begin; row < end; ++row) {
      if (step.positions[static_cast<size_t>(row)] < 0) continue;
      const float *cosines = table + row * dim, *sines = cosines + dim / 2;
      kernels_.rotate(row_of(q, row), shape.heads, dim, cosines, sines);
      kernels_.rotate(row_of(k, row), shape.kv_heads, dim, cosines, sines);
      const int32_t slot = slots[static_cast<size_t>(row)];
      if (slot < 0) continue;
      for (int32_t head = 0; head < shape.kv_heads; ++head)
        kernels_.store_kv(pool.spec.dtype, row_of(k, row) + int64_t{head} * dim, row_of(v, row) + int64_t{head} * dim, dim,
                          pool.head_block(shape.layer, slot / limits::kBlockTokens, head), slot % limits::kBlockTokens);
    }
  });
}

/// The longest come first: what is left for the end of the phase is short.
void CpuBackend::cut_into_tiles(const StepInputs& step, const AttentionCall& call) {
  tiles_.clear();
  for (size_t seq = 0; seq + 1 < step.row_begin.size(); ++seq) {
    const int32_t begin = step.row_begin[seq];
    const bool by_tiles = call.by_tiles && step.row_begin[seq + 1] - begin >= kTileRowsMin;
    const int32_t rows_max = std::max(1, (by_tiles ? call.queries_by_tiles : call.queries) / call.part_heads);
    for (int32_t end = step.row_begin[seq + 1]; end > begin;) {
      QueryTile tile{.seq = static_cast<int32_t>(seq), .by_tiles = by_tiles};
      tile.rows = (end - begin - 1) % rows_max + 1;
      tile.first_row = end -= tile.rows;
      const int32_t* positions = &step.positions[static_cast<size_t>(tile.first_row)];
      if (positions[0] < 0) continue;
      tile.end_span = positions[tile.rows - 1] / kSpanTokens + 1;
      tile.first_span = call.shape.window > 0 ? std::max(0, positions[0] + 1 - call.shape.window) / kSpanTokens : 0;
      tiles_.push_back(tile);
    }
  }
}

AttentionState CpuBackend::partial_state(const AttentionCall& call, const QueryTile& tile, int32_t part, int32_t span) const {
  const int32_t dim = call.shape.head_dim;
  const int64_t of_part = state_floats(tile.rows * call.part_heads, dim);
  const int64_t index = int64_t{part} * (tile.end_span - tile.first_span) + (span - tile.first_span);
  return state_at(partials_->floats() + tile.partial + index * of_part, tile.rows * call.heads_of(part));
}

void CpuBackend::attention(const StepInputs& step, const AttentionShape& shape, Matrix q, KvView kv, Matrix out) {
  const auto& pool = static_cast<const CpuKvPool&>(*kv.pool);
  const int32_t dim = shape.head_dim;
  PM_CHECK(q.cols == int64_t{shape.heads} * dim && out.cols == q.cols && pool.spec.head_dim == dim);
  AttentionCall call{.step = step, .shape = shape, .pool = pool, .tables = step.group[pool.spec.group_of_layer[static_cast<size_t>(shape.layer)]],
                     .q = q, .out = out, .forms = {}};
  call.group_heads = shape.heads / shape.kv_heads;
  const auto queries_of = [&](int32_t most) { return int64_t{step.shape.rows} * shape.heads >= kLargeTasksPerThread * pool_.threads() * most ? most : most / 2; };
  call.queries = queries_of(kQueriesMax);
  call.queries_by_tiles = queries_of(kQueriesByTilesMax);
  call.parts = (call.group_heads + kQueriesMax / 2 - 1) / (kQueriesMax / 2);
  call.part_heads = (call.group_heads + call.parts - 1) / call.parts;
  static_assert(QuantizedRows::kBlock == RoundedRows::kTileCols);
  // In steps whose products with quantised weights go through tiles too, so that both follow one rule.
  call.by_tiles = kernels_.attend_span_by_tiles != nullptr && dim % RoundedRows::kTileCols == 0 && matrices_.takes_bf16_panels(step.shape.rows);
  row_cache_.forget(out);
  if (dim % QuantizedRows::kBlock == 0) call.forms = begin_forms(out);
  cut_into_tiles(step, call);

  const int32_t pieces = shape.kv_heads * call.parts;
  const auto tasks = static_cast<int64_t>(tiles_.size()) * pieces;
  int64_t partials = 0;
  int32_t spans_max = 0;
  for (QueryTile& tile : tiles_) {
    tile.partial = partials;
    const int32_t spans = tile.end_span - tile.first_span;
    partials += spans * pieces * state_floats(tile.rows * call.part_heads, dim);
    spans_max = std::max(spans_max, spans);
  }
  const bool fits = static_cast<size_t>(partials) * sizeof(float) <= partials_->size_bytes();
  if (spans_max <= 1 || tasks >= kTasksPerThread * pool_.threads() || pool_.threads() == 1 || !fits) {
    pool_.run("attention", tasks, [&](int64_t task, int thread) {
      attend_tile(call, tiles_[static_cast<size_t>(task / pieces)], static_cast<int32_t>(task % pieces), thread);
    });
    return;
  }
  pool_.run("attention", tasks * spans_max, [&](int64_t task, int thread) {
    const QueryTile& tile = tiles_[static_cast<size_t>(task / pieces / spans_max)];
    const auto span = static_cast<int32_t>(tile.first_span + task % spans_max);
    if (span < tile.end_span) attend_span(call, tile, static_cast<int32_t>(task / spans_max % pieces), span, thread);
  });
  pool_.run("attention, merge", tasks, [&](int64_t task, int) {
    const QueryTile& tile = tiles_[static_cast<size_t>(task / pieces)];
    const auto part = static_cast<int32_t>(task % pieces);
    const AttentionState total = partial_state(call, tile, part, tile.first_span);
    for (int32_t span = tile.first_span + 1; span < tile.end_span; ++span)
      kernels_.merge(total, partial_state(call, tile, part, span), tile.rows * call.heads_of(part), dim);
    finish_tile(call, tile, part, total);
  });
}

/// bf16 where products with weights round their rows too: a model in f32, or in f16 that stays so, keeps its exactness.
decltype(OpKernels::attend_span) CpuBackend::attend_of(const QueryTile& tile) const {
  if (tile.by_tiles) return kernels_.attend_span_by_tiles;
  return !weight_rows_.empty() && kernels_.attend_span_in_bf16 != nullptr ? kernels_.attend_span_in_bf16 : kernels_.attend_span;
}

/// One span into its own state.
void CpuBackend::attend_span(const AttentionCall& call, const QueryTile& tile, int32_t part, int32_t span, int thread) {
  const int32_t dim = call.shape.head_dim, heads = call.heads_of(part);
  float* scratch = thread_floats_->floats() + thread * thread_stride_;
  float* query = scratch + span_scratch_floats(dim);
  for (int32_t row = 0; row < tile.rows; ++row)
    kernels_.scale(row_of(call.q, tile.first_row + row) + int64_t{call.first_head_of(part)} * dim, call.shape.scale * kLog2E, int64_t{heads} * dim,
                   query + int64_t{row} * heads * dim);
  const SpanTask task{.pool = &call.pool, .layer = call.shape.layer, .kv_head = call.kv_head_of(part), .head_dim = dim, .window = call.shape.window,
                      .span = span, .block_table = call.tables.block_table.data() + int64_t{tile.seq} * call.tables.stride,
                      .queries = tile.rows * heads, .queries_per_row = heads, .positions = &call.step.positions[static_cast<size_t>(tile.first_row)], .query = query, .scratch = scratch};
  attend_of(tile)(task, partial_state(call, tile, part, span));
}

/// All spans of a tile, one after another.
void CpuBackend::attend_tile(const AttentionCall& call, const QueryTile& tile, int32_t part, int thread) {
  const int32_t dim = call.shape.head_dim, heads = call.heads_of(part), queries = tile.rows * heads;
  float* scratch = thread_floats_->floats() + thread * thread_stride_;
  float* query = scratch + span_scratch_floats(dim);
  const AttentionState total = state_at(query + int64_t{kQueriesByTilesMax} * dim, queries);
  const AttentionState next = state_at(query + int64_t{kQueriesByTilesMax} * dim + state_floats(kQueriesByTilesMax, dim), queries);
  for (int32_t row = 0; row < tile.rows; ++row)
    kernels_.scale(row_of(call.q, tile.first_row + row) + int64_t{call.first_head_of(part)} * dim, call.shape.scale * kLog2E, int64_t{heads} * dim,
                   query + int64_t{row} * heads * dim);
  SpanTask task{.pool = &call.pool, .layer = call.shape.layer, .kv_head = call.kv_head_of(part), .head_dim = dim, .window = call.shape.window,
                .span = tile.first_span, .block_table = call.tables.block_table.data() + int64_t{tile.seq} * call.tables.stride, .queries = queries,
                .queries_per_row = heads, .positions = &call.step.positions[static_cast<size_t>(tile.first_row)], .query = query, .scratch = scratch};
  const auto attend = attend_of(tile);
  attend(task, total);
  while (++task.span < tile.end_span) {
    attend(task, next);
    kernels_.merge(total, next, queries, dim);
  }
  finish_tile(call, tile, part, total);
}

void CpuBackend::finish_tile(const AttentionCall& call, const QueryTile& tile, int32_t part, const AttentionState& state) const {
  const int32_t dim = call.shape.head_dim, heads = call.heads_of(part);
  const int64_t first = int64_t{call.first_head_of(part)} * dim;
  for (int32_t row = 0; row < tile.rows; ++row) {
    const int64_t r = tile.first_row + row;
    float* to = row_of(call.out, r) + first;
    for (int32_t head = 0; head < heads; ++head) kernels_.finish(state, row * heads + head, dim, to + int64_t{head} * dim);
    if (const QuantizedRows& quantized = call.forms.quantized)
      quantize_row(matrices_, to, quantized, r, first / QuantizedRows::kBlock, int64_t{heads} * dim / QuantizedRows::kBlock);
  }
  if (call.forms.rounded)
    round_part(pool_, matrices_, row_of(call.out, tile.first_row) + first, call.out.cols, tile.rows, int64_t{heads} * dim, call.forms.rounded, tile.first_row, first);
}

}  // namespace pagemill
