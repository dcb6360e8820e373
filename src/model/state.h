// What a Model holds: its prepared weights, and the activation buffers of one step. Private to this folder.
#pragma once

#include <memory>
#include <vector>

#include "model/manifest.h"
#include "model/model.h"

namespace pagemill {

/// Activations of one step, all in one buffer. Matrices have the rows of the largest step; `rows()` of them are used.
struct Activations {
  Matrix residual;   // [rows, hidden]
  Matrix normed;     // [rows, hidden]
  Matrix delta;      // [rows, hidden]
  Matrix q;          // [rows, heads · head_dim]
  Matrix k, v;       // [rows, kv_heads · head_dim]
  Matrix attention;  // [rows, heads · head_dim]
  Matrix gate, up;   // [rows, ffn]
  Matrix selected;   // [logit_rows, hidden]
  Matrix logits;     // [logit_rows, vocab] f32

  /// Lays the matrices out behind each other from `base` on and returns the bytes they take.
  size_t lay_out(const ModelConfig& config, const StepShape& largest, DType dtype, std::byte* base);
};

struct Model::State {
  ModelConfig config;
  RopeTable rope;
  ModelMemory memory;
  std::vector<std::unique_ptr<Weight>> owned;  // in the order of the manifest
  ModelWeights weights;
  std::unique_ptr<DeviceBuffer> buffer;
  Activations activations;
  StepShape largest;
  int64_t last_rows = 0;  // of the last forward
};

}  // namespace pagemill
