// ModelBench: a model with a backend and a KV pool of its own, driven a step at a time without an engine.
#pragma once

#include <memory>
#include <vector>

#include "backend/backend.h"
#include "model/model.h"
#include "support/test_step.h"

namespace pagemill {

struct ModelBenchOptions {
  int32_t rows_max = 64;
  int32_t logit_rows_max = 64;
  int32_t kv_blocks = 64;
  DType kv_dtype = DType::f32;
  json::object overrides;
};

class ModelBench {
 public:
  /// `backend` must outlive it.
  static Result<std::unique_ptr<ModelBench>> make(const WeightSource& source, Backend& backend, const ModelBenchOptions& options = {});

  /// Runs a step; the logits of its logit rows, [logit_rows, vocab].
  std::vector<float> step(const std::vector<TestSequence>& sequences, int32_t padding_rows = 0);
  /// Logits of every position of one sequence, computed in chunks of `chunk` rows, [tokens, vocab].
  std::vector<float> logits(const std::vector<int32_t>& tokens, int32_t chunk, const std::vector<int32_t>& blocks);
  /// As above, in the first blocks of the pool.
  std::vector<float> logits(const std::vector<int32_t>& tokens, int32_t chunk);

  const ModelConfig& config() const { return model_->config(); }
  Model& model() { return *model_; }
  KvView kv() { return {pool_.get()}; }

 private:
  explicit ModelBench(Backend& backend) : backend_(backend) {}

  Backend& backend_;
  SelfCommunicator communicator_;
  std::unique_ptr<Model> model_;
  std::unique_ptr<KvPool> pool_;
};

}  // namespace pagemill
