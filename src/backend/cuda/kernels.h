// Launchers of the kernels of this folder: raw device pointers and plain structs, no ownership, no host synchronisation, no allocation.
//
// Threads and order: each enqueues on `context.stream` and returns the launch's own error. A launch depends on the host only
//   through its arguments, so that it can be captured in a graph; whatever changes between steps of one shape is read on the device.
// Types: T is f16 or bf16 (`ElementType`), of weights, activations and KV alike. Norm weights and biases are f32. Sums are f32.
// Alignment: every pointer 16 bytes; `in`, `hidden` and `out` rows of matrices are multiples of 8 elements.
// Numerics: with `context.deterministic`, a row's value depends on that row and its context alone: not on the other rows, their
//   number, the chunk or the splits. Otherwise shapes choose the order of sums. No float atomics anywhere: the same launch gives the
//   same bits each time.
// Programmatic launch: with `context.programmatic` a kernel starts while the one before ends, prefetches weights (which nothing
//   writes during a step), and waits for it before it touches anything else.
#pragma once

#include "backend/cuda/runtime.h"
#include "backend/step.h"

namespace pagemill::cuda {

enum class ElementType : uint8_t { f16, bf16 };

struct KernelContext {
  cudaStream_t stream = nullptr;
  int multiprocessors = 132;
  int arch = 80;               // 10 · major + minor; what lies below 90 runs the portable kernels (--cuda-arch 80 forces them)
  bool programmatic = false;   // sm_90 on
  bool deterministic = false;
  bool keep_row = true;        // a single row of x in shared memory (skinny.cu), where it fits; false only to measure what that brings
  void* product_workspace = nullptr;  // product_workspace_bytes(), zeroed once; without it few tiles leave multiprocessors idle
  size_t block_shared_bytes = kPortableSharedBytes;  // what a block may use on this device (cudaDeviceProp::sharedMemPerBlockOptin): never a guess
};

// --- Rows (rows.cu) -------------------------------------------------------------------------------------------------------------
struct EmbedArgs {
  ElementType type;
  const int32_t *tokens, *token_from, *positions;  // [rows]; token_from may be null; a row with position < 0 becomes zero
  const SampledToken* sampled;                     // the step before's, for token_from; a token of -1 counts as 0
  const void* table;                               // [vocab, hidden]
  void* out;                                       // [rows, hidden]
  int rows, hidden;
};
cudaError_t embed(const KernelContext& context, const EmbedArgs& args);

/// out = rms_norm(x); with delta: x += delta first. x, delta, out [rows, hidden]; weight [hidden] f32; out may be x if delta is null.
struct RmsNormArgs {
  ElementType type;
  void* x;
  const void* delta;  // or null
  const float* weight;
  void* out;
  int rows, hidden;
  float eps;
};
cudaError_t rms_norm(const KernelContext& context, const RmsNormArgs& args);

/// out[i] = x[rows[i]]; an index outside [0, x_rows) gives zeros.   out [count, cols]
cudaError_t gather_rows(const KernelContext& context, ElementType type, const void* x, int x_rows, const int32_t* rows, int count, int cols, void* out);
/// x += delta, [count] elements.
cudaError_t add(const KernelContext& context, ElementType type, void* x, const void* delta, int64_t count);
/// out = silu(gate) · up, [count] elements.
cudaError_t gated_silu(const KernelContext& context, ElementType type, const void* gate, const void* up, void* out, int64_t count);
/// out[r] += bias, [rows, cols]: for matrix products by cuBLASLt whose epilogue has no bias of this type.
cudaError_t add_bias(const KernelContext& context, ElementType type, void* x, const float* bias, int rows, int cols);
/// f32 from T and back, [count] elements.
cudaError_t to_f32(const KernelContext& context, ElementType type, const void* from, float* to, int64_t count);
cudaError_t from_f32(const KernelContext& context, ElementType type, const float* from, void* to, int64_t count);

/// angles[r, i] = scale · (cos, sin)(position · inv_freq[i]), once per step.   [rows, head_dim / 2]
struct RopeAngles {
  const int32_t* positions;
  const float* inv_freq;  // [half]
  float scale;
  float2* angles;
  int rows, half;
};
cudaError_t rope_angles(const KernelContext& context, const RopeAngles& args);

// --- KV (kv_layout.h, rope_store.cu) ------------------------------------------------------------------------------------------------
/// One layer's blocks: [blocks, kv_heads, {keys, values}] pieces of 16 tokens × head_dim, each laid out by kv_layout.h.
struct KvLayer {
  void* base;
  int kv_heads, head_dim;
};
size_t kv_layer_block_bytes(int kv_heads, int head_dim);

/// Rotates q and stores rotated k, and v, in the slots.
struct RopeStoreArgs {
  ElementType type;
  const void *q_from, *k, *v;  // [rows, heads · head_dim], [rows, kv_heads · head_dim] twice
  int stride;             // elements from one row to the next of all three (they are columns of one product), 0 = their own widths
  const float* bias[3];   // [heads · head_dim], [kv_heads · head_dim] twice, added first; or null
  void* q;                // [rows, heads · head_dim]; may be q_from where stride is 0
  const float2* angles;   // [rows, head_dim / 2]
  const int32_t* slots;   // [rows], -1 = not stored
  KvLayer kv;
  int rows, heads;
};
cudaError_t rope_store(const KernelContext& context, const RopeStoreArgs& args);

/// Copies blocks (from, to) of a group: `layers` regions, one behind the other, of `layer_stride` bytes each.
cudaError_t copy_blocks(const KernelContext& context, void* base, size_t layer_stride, int layers, size_t block_bytes, const int2* pairs, int count);

// --- Matrix products for few rows (skinny.cu) -----------------------------------------------------------------------------------
enum class Product : uint8_t { plain, gated, qkv };
/// Up to how many rows these are the fastest: 64, but 32 on sm_90a, where cuBLASLt takes over (qkv stays: three products, a
/// rotation and a store would take its place). Given more, the launchers repeat themselves, reading the weights each time, as
/// deterministic mode does.
int skinny_rows_max(const KernelContext& context, Product product);
size_t product_workspace_bytes();

/// out[r] = x[r] · weightᵀ (+ bias) (+ residual[r]).   x [rows, in], weight [out, in]
struct LinearArgs {
  ElementType type;
  const void *x, *weight;
  const float* bias;     // [out] or null
  const void* residual;  // [rows, out] of T or null; may be `out`
  void* out;             // [rows, out] of T, or f32 where out_f32
  bool out_f32;
  int rows, in, out_features;
};
cudaError_t linear_skinny(const KernelContext& context, const LinearArgs& args);

/// out = silu(x · gateᵀ) · (x · upᵀ).   gate, up [ffn, in], out [rows, ffn]; ffn a multiple of 8
struct GatedArgs {
  ElementType type;
  const void *x, *gate, *up;
  void* out;
  int rows, in, ffn;
};
cudaError_t gated_skinny(const KernelContext& context, const GatedArgs& args);
/// The same for many rows, on sm_90a (gated_hopper.cu). has_gated_many: whether it is there and cuts these rows into tiles that fill the device.
bool has_gated_many(const KernelContext& context, int rows, int ffn);
cudaError_t gated_many(const KernelContext& context, const GatedArgs& args);

/// q, k, v = x · weightsᵀ (+ biases); q and k rotated; q written out, k and v stored in the slots.   head_dim a multiple of 16
struct QkvArgs {
  ElementType type;
  const void* x;                   // [rows, in]
  const void* weight[3];           // q [heads · head_dim, in], k, v [kv_heads · head_dim, in]
  const float* bias[3];            // or null
  const float2* angles;            // [rows, head_dim / 2]
  const int32_t* slots;            // [rows]
  void* q;                         // [rows, heads · head_dim]
  KvLayer kv;
  int rows, in, heads;
};
cudaError_t qkv_skinny(const KernelContext& context, const QkvArgs& args);

// --- Attention (attention_decode.cu, attention_prefill.cu) ---------------------------------------------------------------------------
struct AttentionArgs {
  ElementType type;
  const void* q;                // [rows, heads · head_dim], rotated
  void* out;                    // likewise
  KvLayer kv;
  const int32_t* block_table;   // [seqs, table_stride]
  int table_stride;
  const int32_t *positions, *seq_of_row;   // [rows]; position -1 = padding, its output is left alone
  const int32_t* row_begin;     // [seqs + 1]
  int rows, seqs, heads;
  int context_max, query_rows_max;  // as in StepShape
  float scale;
  int window;                   // 0 = all
  void* workspace;              // attention_workspace_bytes(); zeroed once when allocated
};
/// Whatever the step.
size_t attention_workspace_bytes(int heads, int head_dim);
/// Rows of sequences with one row in this step (all rows where query_rows_max = 1, or in deterministic mode).
cudaError_t decode_attention(const KernelContext& context, const AttentionArgs& args);
/// Rows of sequences with more than one row.
cudaError_t prefill_attention(const KernelContext& context, const AttentionArgs& args);
/// Both, as far as the shape needs them.
cudaError_t attention(const KernelContext& context, const AttentionArgs& args);

// --- Sampling (sample.cu) -------------------------------------------------------------------------------------------------------------
struct SampleArgs {
  float* logits;                // [rows, vocab]; edited while the kernel runs, and restored
  const SamplingRow* sampling;  // [rows]
  const HistoryEntry* history;
  const BiasEntry* bias;
  const uint32_t* masks;        // [masks, ⌈vocab / 32⌉]
  float* saved_history;         // one float per history entry of the step
  float* saved_bias;            // one per bias entry
  SampledToken* tokens;         // [rows]
  TopLogprob* top;              // [rows, limits::kTopLogprobs]: the row's `logprobs` best; unused ones have token -1
  int rows, vocab;
};
/// backend/sampling.h, token for token.
cudaError_t sample(const KernelContext& context, const SampleArgs& args);

/// Log-probabilities of given tokens of raw logits; tokens[r].token is targets[r].
struct LogprobArgs {
  const float* logits;      // [rows, vocab]
  const int32_t* targets;   // [rows]
  int top_count;            // ≤ limits::kTopLogprobs
  SampledToken* tokens;     // [rows]
  TopLogprob* top;          // [rows, limits::kTopLogprobs]
  int rows, vocab;
};
cudaError_t logprobs(const KernelContext& context, const LogprobArgs& args);

}  // namespace pagemill::cuda
