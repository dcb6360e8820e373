// CpuBackend: the fast CPU backend. One class for every instruction set: what differs lies in tables of functions (ops/ops.h) and
// behind linear() (linear/linear.h).
//
// Activations are f32 between ops; where the next product wants int8 or bf16 rows, the op that makes its input rounds it while it is in cache
// (RowCache). A layer is eight phases of the pool: norm, q·k·v, rope + store, attention, output, norm, gate·up·SiLU, down;
// those of a single row run on the calling thread without waking anyone.
// Weights are repacked at load; the KV cache is read once for all query heads that share a KV head.
#pragma once

#include <vector>

#include "backend/backend.h"
#include "backend/cpu/compute_pool.h"
#include "backend/cpu/linear/linear.h"
#include "backend/cpu/ops/ops.h"
#include "backend/cpu/row_cache.h"
#include "backend/cpu/step_sampler.h"

namespace pagemill {

class CpuBackend final : public Backend {
 public:
  CpuBackend(Isa isa, int threads, bool deterministic = false);
  /// With other kernels, under a name of their own: for tests of what this CPU lacks.
  CpuBackend(int threads, const OpKernels& ops, const LinearKernels& matrices, std::string name);

  /// ComputePool::trace().
  void trace(std::vector<PhaseTime>* to) { pool_.trace(to); }
  int threads() const { return pool_.threads(); }

  /// Reads anew how much memory is free.
  const DeviceInfo& device() const override;
  DType activation_dtype() const override { return DType::f32; }
  DType kv_dtype_default() const override { return DType::f16; }
  Result<void> status() const override { return {}; }

  Result<std::unique_ptr<DeviceBuffer>> allocate(size_t bytes, std::string_view purpose) override;
  Result<std::unique_ptr<Weight>> prepare_weight(const WeightBytes& weight) override;
  size_t weight_bytes(DType dtype, int64_t out, int64_t in) const override;
  Result<std::unique_ptr<KvPool>> allocate_kv(const KvPoolSpec& spec) override;
  size_t kv_block_bytes(const KvPoolSpec& spec, int32_t group) const override;
  size_t scratch_bytes(const StepShape& largest, int32_t heads, int32_t head_dim, int32_t ffn, int32_t vocab) const override;
  Result<void> reserve_scratch(const StepShape& largest, int32_t heads, int32_t head_dim, int32_t ffn, int32_t vocab) override;

  Result<const StepInputs*> begin_step(const StepInputs& inputs) override { return &inputs; }
  Result<void> synchronize() override { return {}; }
  void copy_blocks(KvView kv, std::span<const BlockCopy> copies) override;

  void embed(const StepInputs& step, const Weight& table, Matrix out) override;
  void rms_norm(Matrix x, const Weight& weight, float eps, Matrix out) override;
  void linear(const StepInputs& step, Matrix x, const Weight& weight, const Weight* bias, Matrix out) override;
  void rope_store(const StepInputs& step, const AttentionShape& shape, const RopeTable& rope, Matrix q, Matrix k, Matrix v,
                  KvView kv) override;
  void attention(const StepInputs& step, const AttentionShape& shape, Matrix q, KvView kv, Matrix out) override;
  void gated_activation(Activation activation, Matrix gate, Matrix up, Matrix out) override;
  void add(Matrix x, Matrix delta) override;
  void gather_rows(const StepInputs& step, Matrix x, std::span<const int32_t> rows, Matrix out) override;
  void add_rms_norm(Matrix x, Matrix delta, const Weight& weight, float eps, Matrix out) override;
  void linear_qkv(const StepInputs& step, Matrix x, const QkvWeights& weights, Matrix q, Matrix k, Matrix v) override;
  void linear_gated(const StepInputs& step, Matrix x, const Weight& gate, const Weight& up, Activation activation, Matrix out,
                    Matrix scratch) override;
  void linear_mlp(const StepInputs& step, Matrix x, const MlpWeights& weights, Activation activation, Matrix gated, Matrix scratch, Matrix out) override;

  void sample(const StepInputs& step, Matrix logits) override;
  Result<void> finish_sample(std::span<SampledToken> tokens, std::span<LogprobRow> logprobs) override;
  Result<void> logprobs(Matrix logits, std::span<const int32_t> targets, int32_t top, std::span<LogprobRow> out) override;
  Result<void> read(Matrix matrix, std::span<float> out) override;

 private:
  /// Consecutive rows of one sequence that one task of attention works on.
  struct QueryTile {
    int32_t seq = 0, first_row = 0, rows = 0;
    int32_t first_span = 0, end_span = 0;
    bool by_tiles = false;
    int64_t partial = 0;  // where its spans' states begin, where spans are tasks of their own
  };
  struct AttentionCall;
  struct ScratchSizes {
    int64_t rows = 0, cols = 0;  // of the matrices that products read
    int64_t thread_floats = 0;   // attention, of each thread
    int64_t partial_floats = 0, rotation_floats = 0;
  };
  static ScratchSizes scratch_sizes(const StepShape& largest, int32_t heads, int32_t head_dim, int32_t ffn);

  /// The forms in which the weights with rows of so many elements want `rows` of them.
  WantedForms wanted_forms(int64_t rows, int64_t cols) const;
  RowCache::Sizes form_sizes(int64_t rows, int64_t quantized_cols, int64_t rounded_cols) const;
  Result<void> reserve_forms();
  /// The places for the forms of a matrix that is being written: empty where no product will read them.
  RowForms begin_forms(Matrix matrix) { return row_cache_.begin(matrix, wanted_forms(matrix.rows, matrix.cols)); }
  /// Calls write(row) for rows [begin, end) of a matrix and makes their other forms while they are in cache.
  template <class Write>
  void write_rows(Matrix matrix, const RowForms& forms, int64_t begin, int64_t end, Write&& write) const;
  LinearInput input_of(Matrix x, std::initializer_list<const Weight*> weights);
  void norm(Matrix x, const float* delta, const Weight& weight, float eps, Matrix out);
  /// reader: the weight that alone will read `out`, or null. Without f32 rows where it reads another form.
  void multiply_gated(Matrix x, const Weight& gate, const Weight& up, Activation activation, Matrix out, const Weight* reader);
  const float* rotations(const StepInputs& step, const RopeTable& rope);

  Result<void> reserve_floats(std::unique_ptr<HostBuffer>& buffer, int64_t floats, std::string_view purpose);
  void cut_into_tiles(const StepInputs& step, const AttentionCall& call);
  void attend_tile(const AttentionCall& call, const QueryTile& tile, int32_t part, int thread);
  decltype(OpKernels::attend_span) attend_of(const QueryTile& tile) const;
  void attend_span(const AttentionCall& call, const QueryTile& tile, int32_t part, int32_t span, int thread);
  void finish_tile(const AttentionCall& call, const QueryTile& tile, int32_t part, const AttentionState& state) const;
  AttentionState partial_state(const AttentionCall& call, const QueryTile& tile, int32_t part, int32_t span) const;

  const OpKernels& kernels_;
  const LinearKernels& matrices_;
  ComputePool pool_;
  mutable DeviceInfo device_;
  WeightArena arena_;
  LinearScratch linear_scratch_;
  RowCache row_cache_;
  StepSampler sampler_;
  /// Matrices with rows of so many elements want them as int8 or, if there are `rounded_from` or more, as bf16 (PackedWeight).
  struct WeightRows {
    int64_t cols = 0;
    bool quantized = false;
    int64_t rounded_from = 0;
    bool operator==(const WeightRows&) const = default;
  };
  std::vector<WeightRows> weight_rows_;  // each once
  int64_t rows_max_ = 0;

  std::unique_ptr<HostBuffer> thread_floats_;  // [threads, thread_stride_] attention's buffers
  int64_t thread_stride_ = 0;
  std::unique_ptr<HostBuffer> partials_;       // states of spans that are tasks of their own
  std::vector<QueryTile> tiles_;

  std::unique_ptr<HostBuffer> rotations_;      // [rows, head_dim]: cosines, then sines of each row's position
  std::vector<int32_t> rotated_positions_;     // the positions they belong to
  const RopeTable* rotated_by_ = nullptr;
};

}  // namespace pagemill
