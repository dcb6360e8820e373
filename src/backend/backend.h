// Backend: the device a model runs on, as about thirty coarse operations.
//
// Threads: a Backend belongs to its engine thread; during loading to the loader thread. It is not safe from two threads.
// Order: ops are enqueued in stream order and may return before they have run; results are read after synchronize() or
//   finish_step(). On the CPU an op has run when it returns. No op allocates device or host memory.
// Errors: ops return nothing. A device that fails (a lost GPU) becomes sticky: status() reports it after a step, and every
//   op after it does nothing. Wrong shapes are bugs (PM_CHECK).
// Shapes: row-major, contiguous dimension last. [rows, n] matrices hold StepShape::rows rows; padding rows hold garbage.
// Numerics: on the CPU the value of a row depends on that row's own tokens alone: sums over k run in one order however
//   many rows there are, attention reduces over fixed chunks of the context. Runs alone, batched, chunked, from the prefix
//   cache or after preemption are bitwise equal.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "backend/step.h"
#include "base/dtype.h"
#include "base/result.h"

namespace pagemill {

enum class DeviceKind { cpu, cuda };

struct DeviceInfo {
  DeviceKind kind = DeviceKind::cpu;
  std::string name;              // "Intel Xeon …", "NVIDIA H200"
  std::string isa;               // "reference", "avx2", "avx512_vnni", "sm_90a"
  int index = 0;
  size_t memory_total_bytes = 0; // what the process may use of it: on the CPU the smaller of machine and cgroup
  size_t memory_free_bytes = 0;
};

/// Device memory, freed with its owner. `data` is dereferenced by the backend alone.
class DeviceBuffer {
 public:
  virtual ~DeviceBuffer() = default;
  virtual std::byte* data() = 0;
  virtual size_t size_bytes() const = 0;
};

/// A matrix on the device; does not own.
struct Matrix {
  std::byte* data = nullptr;
  DType dtype = DType::f32;
  int64_t rows = 0;
  int64_t cols = 0;  // rows are `cols` elements apart
};

/// A weight in the layout that the backend's kernels want. Made by prepare_weight, opaque to everyone else.
class Weight {
 public:
  virtual ~Weight() = default;
  DType source_dtype = DType::f32;  // as in the file
  int64_t out = 0;                  // rows: [out, in]
  int64_t in = 0;
  size_t device_bytes = 0;
};

/// A weight as a model declares it (model/manifest.h) and the file holds it.
struct WeightBytes {
  std::string_view name;
  DType dtype = DType::f32;
  int64_t out = 0;
  int64_t in = 0;
  std::span<const std::byte> bytes;  // stays mapped as long as the Weight lives, so a backend may use it in place
  /// Rows permuted from interleaved to half-split rotary order, heads of this size (formats.md "Q/K permutation"); 0 = as they are.
  int64_t unpermute_head_dim = 0;
  /// Copies a part of `bytes`, which begins at `from`, out of the file without mapping its pages; false where it cannot, and null where
  /// there is no file: then it is to be had from `bytes`. From any thread.
  std::function<bool(const std::byte* from, std::span<std::byte> to)> read{};
};

/// The KV pool: every layer's blocks. What lies inside a block is the backend's business.
struct KvPoolSpec {
  int32_t layers = 0;
  int32_t kv_heads = 0;
  int32_t head_dim = 0;
  DType dtype = DType::f32;             // element type of keys and values
  std::vector<int32_t> group_of_layer;  // [layers] index into blocks
  std::vector<int32_t> blocks;          // blocks of each group
};
class KvPool {
 public:
  virtual ~KvPool() = default;
  KvPoolSpec spec;
  size_t device_bytes = 0;
};

/// Where `forward` stores and finds keys and values.
struct KvView {
  KvPool* pool = nullptr;
};

/// Rotary embedding, precomputed per model: cos and sin for dimension pair i at position p are
/// scale · cos(p · inv_freq[i]) and scale · sin(p · inv_freq[i]). Half-split pairs (i, i + head_dim/2).
struct RopeTable {
  std::vector<float> inv_freq;  // [rotary_dim / 2]
  float scale = 1;              // yarn's attention factor
};

struct AttentionShape {
  int32_t layer = 0;
  int32_t heads = 0;
  int32_t kv_heads = 0;
  int32_t head_dim = 0;
  float scale = 0;       // 1 / sqrt(head_dim)
  int32_t window = 0;    // a row sees this many last positions, itself included; 0 = all
};

enum class Activation { silu };

/// Raw logits' log-probabilities of one row.
struct LogprobRow {
  float chosen = 0;                  // of the token asked for
  int32_t rank = 0;                  // of the token asked for, 1 = highest
  std::vector<TopLogprob> top;       // descending, lowest id first on ties
};

class Backend {
 public:
  virtual ~Backend() = default;

  virtual const DeviceInfo& device() const = 0;
  /// Element type of hidden states between ops.
  virtual DType activation_dtype() const = 0;
  /// Element type of keys and values where nobody asks for one.
  virtual DType kv_dtype_default() const { return activation_dtype(); }
  /// An error once the device has failed for good.
  virtual Result<void> status() const = 0;

  // --- Memory and weights (loading only) -------------------------------------------------------------------------
  /// Zeroed memory; `purpose` is for the memory table and the error.
  virtual Result<std::unique_ptr<DeviceBuffer>> allocate(size_t bytes, std::string_view purpose) = 0;
  virtual Result<std::unique_ptr<Weight>> prepare_weight(const WeightBytes& weight) = 0;
  /// Device bytes that prepare_weight will take for this type and shape, known before anything is read.
  virtual size_t weight_bytes(DType dtype, int64_t out, int64_t in) const = 0;
  /// The weights prepared next take so many bytes in all, as weight_bytes() tells: a backend may set one region aside, where they lie
  /// behind each other in the order they are prepared in.
  virtual Result<void> reserve_weights(size_t bytes);
  virtual Result<std::unique_ptr<KvPool>> allocate_kv(const KvPoolSpec& spec) = 0;
  /// Bytes of one block of one group, over all its layers.
  virtual size_t kv_block_bytes(const KvPoolSpec& spec, int32_t group) const = 0;
  /// What the largest step will need beside the model's activations; known before anything is allocated.
  virtual size_t scratch_bytes(const StepShape& largest, int32_t heads, int32_t head_dim, int32_t ffn, int32_t vocab) const;
  /// The largest step that will ever run: scratch memory is sized here, once.
  virtual Result<void> reserve_scratch(const StepShape& largest, int32_t heads, int32_t head_dim, int32_t ffn, int32_t vocab) = 0;

  /// Frequencies that rope_store will be given; `rope` outlives the steps.
  virtual Result<void> prepare_rope(const RopeTable& rope);

  // --- A step: begin_step, ops, end_step; later finish_step, finish_sample ------------------------------------------
  /// Rows of a step's matrix products come in tiles of so many: the last one costs as much as a full one.
  virtual int32_t row_multiple() const { return 1; }
  /// Steps that may have begun and not been finished: 1 where ops run as they are called, 2 where they overlap the host.
  virtual int steps_in_flight() const { return 1; }
  /// Steps to run once before the first request, because the first of their shape is slow: kernels that are loaded when first used, recorded
  /// graphs. With query_rows_max 1 decode steps of `seqs` sequences, else prompts of one.
  virtual std::vector<StepShape> warm_up_steps(const StepShape& largest) const;
  /// Starts a step: host work outside any graph capture, and the copy of its inputs. The spans of `inputs` must stay
  /// valid until the step has been finished. Returns the inputs as the ops of this step must be given them.
  virtual Result<const StepInputs*> begin_step(const StepInputs& inputs) = 0;
  /// Runs `body`, which enqueues ops of the step that depend on the host by the step's shape alone. A backend may record them once
  /// per shape and repeat them instead of calling it again: body changes nothing on the host that outlives the step.
  /// `kv` is the pool of the model whose step it is.
  virtual void replay(const StepInputs& step, KvView kv, const std::function<void()>& body);
  /// Nothing more is enqueued for the step begun last.
  virtual Result<void> end_step() { return {}; }
  /// Waits for the oldest step that has begun and was not finished. Once for each, whether it samples or not.
  virtual Result<void> finish_step() { return {}; }
  /// Waits for everything enqueued.
  virtual Result<void> synchronize() = 0;
  /// Copies whole blocks inside a group: (from, to) pairs. Before the step's ops.
  struct BlockCopy { int32_t group = 0, from = 0, to = 0; };
  virtual void copy_blocks(KvView kv, std::span<const BlockCopy> copies) = 0;

  // --- Ops -----------------------------------------------------------------------------------------------------------
  /// out[r] = table row of step.tokens[r] (or of the previous step's token, token_from).   out [rows, hidden]
  virtual void embed(const StepInputs& step, const Weight& table, Matrix out) = 0;
  /// out[r] = x[r] / sqrt(mean(x[r]²) + eps) · weight.   x, out [rows, n]; weight [1, n]; out may be x
  virtual void rms_norm(Matrix x, const Weight& weight, float eps, Matrix out) = 0;
  /// out = x · weightᵀ (+ bias).   x [rows, in], weight [out, in], bias [1, out] or null, out [rows, out]
  virtual void linear(const StepInputs& step, Matrix x, const Weight& weight, const Weight* bias, Matrix out) = 0;
  /// Rotates q and k at the rows' positions and stores k and v in the step's slots of the layer's group.
  /// q [rows, heads · head_dim] (rotated in place), k, v [rows, kv_heads · head_dim]
  virtual void rope_store(const StepInputs& step, const AttentionShape& shape, const RopeTable& rope, Matrix q, Matrix k,
                          Matrix v, KvView kv) = 0;
  /// Causal paged attention of every row over its sequence's context up to its own position (the step's keys are in the
  /// cache already).   q, out [rows, heads · head_dim]
  virtual void attention(const StepInputs& step, const AttentionShape& shape, Matrix q, KvView kv, Matrix out) = 0;
  /// out = act(gate) · up, elementwise.   all [rows, ffn]; out may be gate
  virtual void gated_activation(Activation activation, Matrix gate, Matrix up, Matrix out) = 0;
  /// x += delta.   [rows, n]
  virtual void add(Matrix x, Matrix delta) = 0;
  /// out[i] = x[rows[i]].   rows is an array of the step (logit_rows or a span of it); out [rows.size(), n]
  virtual void gather_rows(const StepInputs& step, Matrix x, std::span<const int32_t> rows, Matrix out) = 0;

  // --- Fused ops: a default composed of the plain ones above; a backend overrides what pays. ---------------------
  /// x += delta; out = rms_norm(x).
  virtual void add_rms_norm(Matrix x, Matrix delta, const Weight& weight, float eps, Matrix out);
  struct QkvWeights { const Weight *q, *k, *v, *q_bias, *k_bias, *v_bias; };
  virtual void linear_qkv(const StepInputs& step, Matrix x, const QkvWeights& weights, Matrix q, Matrix k, Matrix v);
  /// linear_qkv, then rope_store. What k and v hold afterwards is left open.
  virtual void linear_qkv_rope_store(const StepInputs& step, Matrix x, const QkvWeights& weights, const AttentionShape& shape,
                                     const RopeTable& rope, Matrix q, Matrix k, Matrix v, KvView kv);
  /// out = act(x · gateᵀ) · (x · upᵀ); `scratch` [rows, ffn] is the backend's to use.
  virtual void linear_gated(const StepInputs& step, Matrix x, const Weight& gate, const Weight& up, Activation activation,
                            Matrix out, Matrix scratch);
  /// linear_gated into `gated`, then out = gated · downᵀ. What `gated` and `scratch`, [rows, ffn], hold afterwards is left open.
  struct MlpWeights { const Weight *gate, *up, *down; };
  virtual void linear_mlp(const StepInputs& step, Matrix x, const MlpWeights& weights, Activation activation, Matrix gated, Matrix scratch, Matrix out);

  // --- Sampling ------------------------------------------------------------------------------------------------------
  /// Enqueues the choice of a token for every logit row, exactly as backend/sampling.h defines it: bias, penalties, mask,
  /// temperature, typical_p, min_p, top_k, top_p, draw (vLLM's order).   logits [logit_rows, vocab] f32, kept as they are
  virtual void sample(const StepInputs& step, Matrix logits) = 0;
  /// The tokens of the step finished last; [logit_rows]. `logprobs[i]` is filled for the rows that asked.
  virtual Result<void> finish_sample(std::span<SampledToken> tokens, std::span<LogprobRow> logprobs) = 0;
  /// Log-probabilities of given tokens: row i of logits, token targets[i], `top` best beside it. Waits.
  virtual Result<void> logprobs(Matrix logits, std::span<const int32_t> targets, int32_t top, std::span<LogprobRow> out) = 0;
  /// Copies a matrix to the host as f32 (embeddings, tests). Waits.   out [rows · cols]
  virtual Result<void> read(Matrix matrix, std::span<float> out) = 0;
};

/// The plain C++ backend with f32 activations: the oracle of every other one. `threads` 0 = what affinity and cgroup allow.
std::unique_ptr<Backend> make_reference_backend(int threads = 0);

/// The CPU backend. `isa`: "auto" (the best this CPU has), "reference", or an instruction set by name; the error names what this CPU
/// lacks and what it has. deterministic: the same bits whatever else runs with "amx" too (linear_kernels); with all others it always is so.
Result<std::unique_ptr<Backend>> make_cpu_backend(std::string_view isa = "auto", int threads = 0, bool deterministic = false);

}  // namespace pagemill
