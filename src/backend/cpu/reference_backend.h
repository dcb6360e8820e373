// ReferenceBackend: every op of backend.h in plain C++ with f32 activations. The oracle of the faster backends: first readable,
// then quick enough to answer from a small model.
//
// Weights stay in the file's format and become f32 a row at a time, for all rows of the step together. Every sum has one
// order (dot.h; attention block by block of the context, from the first), so a row's value does not depend on the others.
#pragma once

#include <vector>

#include "backend/backend.h"
#include "backend/cpu/compute_pool.h"
#include "backend/cpu/kv_pool.h"
#include "backend/cpu/reference_weight.h"
#include "backend/cpu/step_sampler.h"

namespace pagemill {

/// Rows of a weight that one task of `linear` turns into f32 at once.
inline constexpr int64_t kWeightRows = 8;
/// What one thread needs in `attention` and `rope_store`.
int64_t attention_scratch_floats(int32_t heads, int32_t head_dim);

class ReferenceBackend final : public Backend {
 public:
  explicit ReferenceBackend(int threads);

  /// Reads anew how much memory is free.
  const DeviceInfo& device() const override;
  DType activation_dtype() const override { return DType::f32; }
  Result<void> status() const override { return {}; }

  Result<std::unique_ptr<DeviceBuffer>> allocate(size_t bytes, std::string_view purpose) override;
  Result<std::unique_ptr<Weight>> prepare_weight(const WeightBytes& weight) override;
  size_t weight_bytes(DType dtype, int64_t out, int64_t in) const override;
  Result<std::unique_ptr<KvPool>> allocate_kv(const KvPoolSpec& spec) override;
  size_t kv_block_bytes(const KvPoolSpec& spec, int32_t group) const override;
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

  void sample(const StepInputs& step, Matrix logits) override;
  Result<void> finish_sample(std::span<SampledToken> tokens, std::span<LogprobRow> logprobs) override;
  Result<void> logprobs(Matrix logits, std::span<const int32_t> targets, int32_t top, std::span<LogprobRow> out) override;
  Result<void> read(Matrix matrix, std::span<float> out) override;

 private:
  /// Grows every thread's scratch; while loading only.
  void reserve_floats(int64_t floats);
  float* scratch(int thread, int64_t floats);

  ComputePool pool_;
  mutable DeviceInfo device_;
  std::vector<std::vector<float>> scratch_;  // [threads]
  StepSampler sampler_;
};

}  // namespace pagemill
