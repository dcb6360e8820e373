// ForwardingBackend: hands every op on to another backend. Tests derive from it to watch or to spoil single ops.
#pragma once

#include "backend/backend.h"

namespace pagemill {

class ForwardingBackend : public Backend {
 public:
  explicit ForwardingBackend(Backend& inner) : inner_(inner) {}

  const DeviceInfo& device() const override { return inner_.device(); }
  DType activation_dtype() const override { return inner_.activation_dtype(); }
  DType kv_dtype_default() const override { return inner_.kv_dtype_default(); }
  Result<void> status() const override { return inner_.status(); }
  Result<std::unique_ptr<DeviceBuffer>> allocate(size_t bytes, std::string_view purpose) override { return inner_.allocate(bytes, purpose); }
  Result<std::unique_ptr<Weight>> prepare_weight(const WeightBytes& weight) override { return inner_.prepare_weight(weight); }
  size_t weight_bytes(DType dtype, int64_t out, int64_t in) const override { return inner_.weight_bytes(dtype, out, in); }
  Result<void> reserve_weights(size_t bytes) override { return inner_.reserve_weights(bytes); }
  Result<std::unique_ptr<KvPool>> allocate_kv(const KvPoolSpec& spec) override { return inner_.allocate_kv(spec); }
  size_t kv_block_bytes(const KvPoolSpec& spec, int32_t group) const override { return inner_.kv_block_bytes(spec, group); }
  Result<void> reserve_scratch(const StepShape& largest, int32_t heads, int32_t head_dim, int32_t ffn, int32_t vocab) override {
    return inner_.reserve_scratch(largest, heads, head_dim, ffn, vocab);
  }
  size_t scratch_bytes(const StepShape& largest, int32_t heads, int32_t head_dim, int32_t ffn, int32_t vocab) const override {
    return inner_.scratch_bytes(largest, heads, head_dim, ffn, vocab);
  }
  Result<void> prepare_rope(const RopeTable& rope) override { return inner_.prepare_rope(rope); }
  int steps_in_flight() const override { return inner_.steps_in_flight(); }
  std::vector<StepShape> warm_up_steps(const StepShape& largest) const override { return inner_.warm_up_steps(largest); }
  Result<void> end_step() override { return inner_.end_step(); }
  Result<void> finish_step() override { return inner_.finish_step(); }
  Result<const StepInputs*> begin_step(const StepInputs& inputs) override { return inner_.begin_step(inputs); }
  Result<void> synchronize() override { return inner_.synchronize(); }
  void copy_blocks(KvView kv, std::span<const BlockCopy> copies) override { inner_.copy_blocks(kv, copies); }

  void embed(const StepInputs& step, const Weight& table, Matrix out) override { inner_.embed(step, table, out); }
  void rms_norm(Matrix x, const Weight& weight, float eps, Matrix out) override { inner_.rms_norm(x, weight, eps, out); }
  void linear(const StepInputs& step, Matrix x, const Weight& weight, const Weight* bias, Matrix out) override {
    inner_.linear(step, x, weight, bias, out);
  }
  void rope_store(const StepInputs& step, const AttentionShape& shape, const RopeTable& rope, Matrix q, Matrix k, Matrix v,
                  KvView kv) override {
    inner_.rope_store(step, shape, rope, q, k, v, kv);
  }
  void attention(const StepInputs& step, const AttentionShape& shape, Matrix q, KvView kv, Matrix out) override {
    inner_.attention(step, shape, q, kv, out);
  }
  void gated_activation(Activation activation, Matrix gate, Matrix up, Matrix out) override {
    inner_.gated_activation(activation, gate, up, out);
  }
  void add(Matrix x, Matrix delta) override { inner_.add(x, delta); }
  void gather_rows(const StepInputs& step, Matrix x, std::span<const int32_t> rows, Matrix out) override {
    inner_.gather_rows(step, x, rows, out);
  }
  void add_rms_norm(Matrix x, Matrix delta, const Weight& weight, float eps, Matrix out) override {
    inner_.add_rms_norm(x, delta, weight, eps, out);
  }
  void linear_qkv(const StepInputs& step, Matrix x, const QkvWeights& weights, Matrix q, Matrix k, Matrix v) override {
    inner_.linear_qkv(step, x, weights, q, k, v);
  }
  void linear_gated(const StepInputs& step, Matrix x, const Weight& gate, const Weight& up, Activation activation, Matrix out,
                    Matrix scratch) override {
    inner_.linear_gated(step, x, gate, up, activation, out, scratch);
  }
  void linear_mlp(const StepInputs& step, Matrix x, const MlpWeights& weights, Activation activation, Matrix gated, Matrix scratch, Matrix out) override {
    inner_.linear_mlp(step, x, weights, activation, gated, scratch, out);
  }
  void sample(const StepInputs& step, Matrix logits) override { inner_.sample(step, logits); }
  Result<void> finish_sample(std::span<SampledToken> tokens, std::span<LogprobRow> rows) override {
    return inner_.finish_sample(tokens, rows);
  }
  Result<void> logprobs(Matrix logits, std::span<const int32_t> targets, int32_t top, std::span<LogprobRow> out) override {
    return inner_.logprobs(logits, targets, top, out);
  }
  Result<void> read(Matrix matrix, std::span<float> out) override { return inner_.read(matrix, out); }

 protected:
  Backend& inner_;
};

}  // namespace pagemill
