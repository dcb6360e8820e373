// The operations of the CPU backend between its matrix products, as one table of functions per instruction set.
//
// Each function works on raw pointers and is called from the tasks of a phase; the backend checks shapes, cuts the work and
// owns the memory. Buffers need no alignment. Nothing allocates. Sums have one order per instruction set, whatever is computed
// beside them.
//
// The bodies (row_kernels.h, attention_kernels.h) are written once over a vector type and instantiated per instruction set in
// ops_*.cpp, which alone are compiled with its flags; the plain instance runs everywhere.
#pragma once

#include <cstdint>
#include <span>

#include "backend/cpu/isa.h"
#include "backend/cpu/kv_pool.h"

namespace pagemill {

/// Positions whose softmax is taken in one piece. A row's attention is merged from the spans [0, 256), [256, 512), … in this
/// order, whoever computes which span: so its value depends on its own context alone.
inline constexpr int32_t kSpanTokens = 256;
/// Query vectors that one task works on at once, at most; by tiles, where what is made of keys and values costs more, they serve more.
inline constexpr int32_t kQueriesMax = 96, kQueriesByTilesMax = 192;
/// Blocks of a span whose values become f32 together, and keys at most (as many as a tile of products is wide): sums of values leave the registers once for
/// 64 tokens.
inline constexpr int32_t kSpanBlocksAtOnce = 4;
/// Columns of the products inside attention: the tokens of a block, and elements of a value.
inline constexpr int32_t kTileColumns = limits::kBlockTokens;

/// Floats that a value takes in attention's buffers: head_dim rounded up to whole tiles.
constexpr int64_t padded_dim(int32_t head_dim) { return (int64_t{head_dim} + kTileColumns - 1) / kTileColumns * kTileColumns; }

/// What the queries of one task have seen of their contexts: softmax over those positions, not yet divided.
struct AttentionState {
  float* max;  // [queries] log2-scaled; -infinity = nothing yet
  float* sum;  // [queries] Σ 2^(score − max)
  float* out;  // [queries, padded_dim] Σ 2^(score − max) · value
};

/// Some queries of one KV head of one sequence against one span.
struct SpanTask {
  const CpuKvPool* pool;
  int32_t layer, kv_head, head_dim, window;
  int32_t span;                        // positions span · kSpanTokens …
  const int32_t* block_table;          // of the sequence
  int32_t queries;                     // ≤ kQueriesMax, or kQueriesByTilesMax
  int32_t queries_per_row;             // heads that share the KV head: query i belongs to the task's row i / queries_per_row
  const int32_t* positions;            // of the task's rows, ascending
  const float* query;                  // [queries, head_dim], multiplied by scale · log2 e
  float* scratch;                      // [span_scratch_floats]
};
/// attend_span's: scores, some blocks' keys and values. attend_span_by_tiles' beside them, of 16 bits each: queries and keys twice, weights, values.
constexpr int64_t span_scratch_floats(int32_t head_dim) {
  return int64_t{kQueriesByTilesMax} * kSpanTokens + int64_t{kSpanBlocksAtOnce} * kTileColumns * (head_dim + padded_dim(head_dim)) +
         int64_t{kQueriesByTilesMax + kTileColumns} * head_dim + (kQueriesByTilesMax + padded_dim(head_dim)) * kSpanTokens / 2;
}

struct OpKernels {
  Isa isa;
  /// x += delta where delta is given; out = x / sqrt(mean(x²) + eps) · weight. out may be x.
  void (*add_rms_norm)(float* x, const float* delta, const float* weight, float eps, int64_t n, float* out);
  void (*add)(float* x, const float* delta, int64_t n);
  /// out = gate / (1 + e^−gate) · up; out may be gate.
  void (*silu_mul)(const float* gate, const float* up, int64_t n, float* out);
  /// Rotates pairs (i, i + head_dim / 2) of `heads` heads; cosines and sines are [head_dim / 2].
  void (*rotate)(float* x, int32_t heads, int32_t head_dim, const float* cosines, const float* sines);
  /// Stores one position's key and value: as CpuKvPool::store, to the bit.
  void (*store_kv)(DType dtype, const float* key, const float* value, int32_t head_dim, KvHeadBlock to, int32_t offset);
  /// out[i] = x[i] · factor.
  void (*scale)(const float* x, float factor, int64_t n, float* out);
  /// Attention over one span, alone: writes `state` for the task's queries; a query that sees nothing of it gets max = -infinity.
  void (*attend_span)(const SpanTask& task, AttentionState state);
  /// The same with weights and values rounded to bf16; null where the instruction set has no operations on it, or slow ones.
  void (*attend_span_in_bf16)(const SpanTask& task, AttentionState state);
  /// The same with products of bf16 by tiles, for head_dim a multiple of 32; null where the instruction set has none. Values differ from
  /// attend_span's by their rounding.
  void (*attend_span_by_tiles)(const SpanTask& task, AttentionState state);
  /// into = into merged with `next`, the span that follows.
  void (*merge)(AttentionState into, AttentionState next, int32_t queries, int32_t head_dim);
  /// out[i] = state.out / state.sum of one query, [head_dim].
  void (*finish)(const AttentionState& state, int32_t query, int32_t head_dim, float* out);
};

/// The table of an instruction set that this CPU has.
const OpKernels& op_kernels(Isa isa);

/// The plain instance with Isa::avx512_vnni's operations on bf16 and Isa::amx's tiles. For tests.
const OpKernels& plain_bf16_op_kernels();

}  // namespace pagemill
