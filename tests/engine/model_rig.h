// ModelRig: the engine's core over a real model, its logits recorded on the way to the sampler.
#pragma once

#include <bit>
#include <map>
#include <memory>
#include <span>
#include <vector>

#include "base/check.h"
#include "engine/core.h"
#include "engine/model_runner.h"
#include "support/forwarding_backend.h"

namespace pagemill {

/// Remembers a hash of the logits that each token was sampled from, by (seed, position). Requests of a test have seeds of their own.
class RecordingBackend final : public ForwardingBackend {
 public:
  using ForwardingBackend::ForwardingBackend;
  Result<const StepInputs*> begin_step(const StepInputs& inputs) override {
    sampling_ = inputs.sampling;  // the host's: those of sample() may be a device's, with rows to pad
    return inner_.begin_step(inputs);
  }
  void sample(const StepInputs& step, Matrix logits) override {
    // From the device, wherever it keeps them.
    values_.resize(static_cast<size_t>(logits.rows * logits.cols));
    PM_CHECK(inner_.read(logits, values_));
    for (size_t row = 0; row < sampling_.size(); ++row) {
      uint64_t hash = 0xCBF29CE484222325;  // FNV-1a over 32-bit words
      const float* value = values_.data() + row * static_cast<size_t>(logits.cols);
      for (int64_t i = 0; i < logits.cols; ++i) hash = (hash ^ std::bit_cast<uint32_t>(value[i])) * 0x100000001B3;
      logits_[{sampling_[row].seed, sampling_[row].position}] = hash;
    }
    inner_.sample(step, logits);
  }
  // Fused ops as the backend runs them, not composed of its plain ones.
  void add_rms_norm(Matrix x, Matrix delta, const Weight& weight, float eps, Matrix out) override {
    inner_.add_rms_norm(x, delta, weight, eps, out);
  }
  void linear_qkv(const StepInputs& step, Matrix x, const QkvWeights& weights, Matrix q, Matrix k, Matrix v) override {
    inner_.linear_qkv(step, x, weights, q, k, v);
  }
  void linear_qkv_rope_store(const StepInputs& step, Matrix x, const QkvWeights& weights, const AttentionShape& shape, const RopeTable& rope,
                             Matrix q, Matrix k, Matrix v, KvView kv) override {
    inner_.linear_qkv_rope_store(step, x, weights, shape, rope, q, k, v, kv);
  }
  void linear_gated(const StepInputs& step, Matrix x, const Weight& gate, const Weight& up, Activation activation, Matrix out,
                    Matrix scratch) override {
    inner_.linear_gated(step, x, gate, up, activation, out, scratch);
  }
  void linear_mlp(const StepInputs& step, Matrix x, const MlpWeights& weights, Activation activation, Matrix gated, Matrix scratch, Matrix out) override {
    inner_.linear_mlp(step, x, weights, activation, gated, scratch, out);
  }
  /// Hashes by (seed, position).
  std::map<std::pair<uint64_t, uint64_t>, uint64_t> take() { return std::exchange(logits_, {}); }

 private:
  std::map<std::pair<uint64_t, uint64_t>, uint64_t> logits_;
  std::span<const SamplingRow> sampling_;  // of the step at hand
  std::vector<float> values_;            // [rows, vocabulary] of the step at hand
};

struct RigOptions {
  int32_t max_num_seqs = 16;
  int32_t max_num_batched_tokens = 256;
  int32_t blocks = 512;
  bool prefix_cache = true;
  int32_t context_max = 256;
  DType kv_dtype = DType::f32;
  /// False: the backend is used as it is, so that it may record and replay steps; no logits then.
  bool record_logits = true;
};

/// What one run of requests gave.
struct RigRun {
  std::map<uint64_t, std::vector<int32_t>> tokens;                       // by the request's seed
  std::map<std::pair<uint64_t, uint64_t>, uint64_t> logits;              // by (seed, position)
  std::map<uint64_t, std::vector<float>> embeddings;                     // by the request's seed
  std::map<uint64_t, std::vector<TokenLogprob>> scores;                  // of prompts, by the request's seed
  uint64_t preemptions = 0;
  int64_t cached_tokens = 0;
  bool operator==(const RigRun& other) const { return tokens == other.tokens && logits == other.logits; }
};

class ModelRig {
 public:
  ModelRig(const WeightSource& source, Backend& backend, const RigOptions& options, const json::object& overrides = {});
  /// Runs requests to their ends, together.
  RigRun run(const std::vector<EngineRequest>& requests);
  const ModelConfig& config() const { return runner_->model().config(); }

 private:
  RecordingBackend recorder_;
  SteadyClock clock_;
  std::unique_ptr<ModelRunner> runner_;
  std::unique_ptr<Admission> admission_;
  std::unique_ptr<EngineCore> core_;
};

}  // namespace pagemill
