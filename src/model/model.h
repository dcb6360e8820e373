// Model: a loaded decoder. Owns its prepared weights and its activation buffers; `forward` enqueues one step.
#pragma once

#include <functional>
#include <memory>

#include "backend/backend.h"
#include "model/config.h"
#include "parallel/communicator.h"

namespace pagemill {

struct ModelLoadOptions {
  StepShape largest_step;     // sizes the activation buffers: rows and logit_rows
  json::object overrides;     // as in read_model_config
  /// Called from the loading thread with the share done, 0 … 1; returning false cancels the load.
  std::function<bool(double)> progress;
};

/// Bytes on the device that a model will take, known from its metadata alone.
struct ModelMemory {
  size_t weights_bytes = 0;
  size_t activations_bytes = 0;
};

/// Belongs to the engine thread of its device once loaded.
class Model {
 public:
  /// Checks every tensor's presence, type and shape against the manifest, then prepares the weights. `source` must outlive
  /// the model. Errors name the tensor and the file.
  static Result<std::unique_ptr<Model>> load(const WeightSource& source, Backend& backend, const ModelLoadOptions& options);
  static Result<ModelMemory> estimate(const WeightSource& source, const Backend& backend, const ModelLoadOptions& options);
  ~Model();

  const ModelConfig& config() const;
  ModelMemory memory() const;

  /// Enqueues the step up to the final norm; the hidden states stay inside until the next forward.
  void forward(const StepInputs& step, KvView kv, Backend& backend, Communicator& communicator);
  /// Logits of rows `rows` (an array of the step) of the last forward: f32 [rows.size(), vocab], valid until the next call.
  /// At most largest_step.logit_rows rows a call: callers with more (prompt log-probabilities) go in chunks.
  Matrix lm_head(const StepInputs& step, std::span<const int32_t> rows, Backend& backend, Communicator& communicator);
  /// The normed hidden states of the last forward: [rows, hidden].
  Matrix hidden_states() const;

 private:
  struct State;
  explicit Model(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace pagemill
