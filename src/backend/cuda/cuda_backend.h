// CudaBackend: the ops of backend.h on one GPU, all on one stream.
//
// A step: begin_step packs its inputs into pinned memory and enqueues their copy (step_buffers.h); replay() records a decode step as
// a graph or replays it (step_graphs.h); ops choose a kernel by the number of rows: up to skinny_rows_max() the skinny kernels, which
// fuse QKV with rotation and store and gate · up · SiLU, above that cuBLASLt, or the skinny kernels again where it is missing or
// `deterministic` forbids it; sample() leaves tokens on the device for the next step's embed and copies them back; end_step marks
// the end with an event; finish_step waits for it. Two steps may be in flight.
#pragma once

#include <array>
#include <memory>
#include <vector>

#include "backend/cuda/cublaslt.h"
#include "backend/cuda/cuda.h"
#include "backend/cuda/kv_pool.h"
#include "backend/cuda/step_buffers.h"
#include "backend/cuda/step_graphs.h"
#include "backend/cuda/weights.h"

namespace pagemill::cuda {

inline constexpr int kStepsInFlight = 2;
/// The product of q, k and v is at most so many times as wide as q.
inline constexpr int64_t kQkvWidths = 3;

class CudaBackend final : public Backend {
 public:
  static Result<std::unique_ptr<CudaBackend>> make(const CudaOptions& options);
  ~CudaBackend() override;

  /// Reads anew how much memory is free.
  const DeviceInfo& device() const override;
  DType activation_dtype() const override { return options_.dtype; }
  Result<void> status() const override { return status_.result(); }

  Result<std::unique_ptr<DeviceBuffer>> allocate(size_t bytes, std::string_view purpose) override;
  Result<std::unique_ptr<Weight>> prepare_weight(const WeightBytes& weight) override;
  size_t weight_bytes(DType dtype, int64_t out, int64_t in) const override;
  Result<void> reserve_weights(size_t bytes) override;
  Result<std::unique_ptr<KvPool>> allocate_kv(const KvPoolSpec& spec) override;
  size_t kv_block_bytes(const KvPoolSpec& spec, int32_t group) const override;
  size_t scratch_bytes(const StepShape& largest, int32_t heads, int32_t head_dim, int32_t ffn, int32_t vocab) const override;
  Result<void> reserve_scratch(const StepShape& largest, int32_t heads, int32_t head_dim, int32_t ffn, int32_t vocab) override;
  Result<void> prepare_rope(const RopeTable& rope) override;

  int32_t row_multiple() const override { return context_.arch >= 90 ? 256 : 128; }  // gated_hopper.cu's pairs of tiles; cuBLASLt's tiles
  int steps_in_flight() const override { return kStepsInFlight; }
  std::vector<StepShape> warm_up_steps(const StepShape& largest) const override;
  Result<const StepInputs*> begin_step(const StepInputs& inputs) override;
  void replay(const StepInputs& step, KvView kv, const std::function<void()>& body) override;
  Result<void> end_step() override;
  Result<void> finish_step() override;
  Result<void> synchronize() override;
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
  void linear_qkv_rope_store(const StepInputs& step, Matrix x, const QkvWeights& weights, const AttentionShape& shape,
                             const RopeTable& rope, Matrix q, Matrix k, Matrix v, KvView kv) override;
  void linear_gated(const StepInputs& step, Matrix x, const Weight& gate, const Weight& up, Activation activation, Matrix out,
                    Matrix scratch) override;

  void sample(const StepInputs& step, Matrix logits) override;
  Result<void> finish_sample(std::span<SampledToken> tokens, std::span<LogprobRow> logprobs) override;
  Result<void> logprobs(Matrix logits, std::span<const int32_t> targets, int32_t top, std::span<LogprobRow> out) override;
  Result<void> read(Matrix matrix, std::span<float> out) override;

  // For tests and reports.
  const StepGraphs& graphs() const { return graphs_; }
  bool has_cublas() const { return cublas_ != nullptr; }
  cudaStream_t stream() const { return stream_.get(); }
  /// As if libcublasLt were not there.
  void close_cublas() { cublas_.reset(); }

 private:
  /// Where the pieces of the scratch memory lie, in bytes from its start.
  struct ScratchPlan {
    size_t cublas = 0, products = 0, qkv = 0, attention = 0, angles = 0, saved_history = 0, saved_bias = 0, sampled = 0, top = 0, targets = 0, scored = 0, scored_top = 0,
           floats = 0, total = 0;
  };
  /// What a step in flight gives back, in pinned memory.
  struct Results {
    std::unique_ptr<PinnedMemory> memory;   // tokens [logit_rows], then top [logit_rows, kTopLogprobs]
    Event ended;
    size_t rows = 0;
  };

  explicit CudaBackend(const CudaOptions& options) : options_(options) {}
  Result<void> open();
  ScratchPlan plan_scratch(const StepShape& largest, int32_t heads, int32_t head_dim, const StepCapacity& capacity) const;
  /// Before anything but kernels: other threads' device is 0.
  Result<void> use_device();
  Result<void> open_loader();
  Result<void> finish_loading();
  bool failed() const { return !status_.ok(); }
  void launched(cudaError_t error, const char* kernel) { status_.take(error, kernel); }
  template <class T>
  T* scratch(size_t offset) { return reinterpret_cast<T*>(scratch_->data() + offset); }
  SampledToken* result_tokens(Results& results) { return reinterpret_cast<SampledToken*>(results.memory->data()); }
  TopLogprob* result_top(Results& results) { return reinterpret_cast<TopLogprob*>(results.memory->data() + top_at_); }
  ElementType type() const { return options_.dtype == DType::f16 ? ElementType::f16 : ElementType::bf16; }
  void check(const Matrix& matrix, int64_t rows, int64_t cols) const;
  const float* rope_frequencies(const RopeTable& rope) const;
  void compute_angles(const StepInputs& step, const RopeTable& rope);
  bool qkv_in_one_product(const StepInputs& step, Matrix x, const QkvWeights& weights, const AttentionShape& shape, const RopeTable& rope, Matrix q, KvView kv);
  bool takes_skinny(int64_t rows, Product product) const { return rows <= skinny_rows_max(context_, product) || options_.deterministic || !cublas_; }

  const CudaOptions options_;
  mutable DeviceInfo device_;
  DeviceStatus status_;
  KernelContext context_;
  Stream stream_;
  std::unique_ptr<CublasLt> cublas_;
  std::unique_ptr<WeightLoader> loader_;                 // while loading
  std::unique_ptr<DeviceMemory> scratch_;
  ScratchPlan plan_;
  StepShape largest_;
  size_t top_at_ = 0;                                    // bytes from the start of Results::memory
  int32_t heads_ = 0, head_dim_ = 0, vocab_ = 0;         // the largest, like largest_
  std::vector<std::pair<RopeTable, std::unique_ptr<DeviceMemory>>> ropes_;
  std::unique_ptr<StepBuffers> buffers_;
  std::array<Results, kStepsInFlight> results_;
  std::unique_ptr<PinnedMemory> bounce_;                 // for what waits: read(), logprobs()
  StepGraphs graphs_;                                    // after all that its graphs point to
  uint64_t begun_ = 0, finished_ = 0;
  const RopeTable* angles_of_ = nullptr;                 // whose angles the step at hand has
};

}  // namespace pagemill::cuda
