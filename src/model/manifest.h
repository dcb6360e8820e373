// The manifest: every weight of a model, declared once as data. The list drives the check of a file, the estimate of its
// memory and loading.
#pragma once

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "backend/backend.h"
#include "format/weight_source.h"
#include "model/config.h"

namespace pagemill {

/// The prepared weights as `forward` reads them; null where the family has none.
struct LayerWeights {
  const Weight *attn_norm = nullptr, *q = nullptr, *k = nullptr, *v = nullptr, *q_bias = nullptr, *k_bias = nullptr,
               *v_bias = nullptr, *attn_output = nullptr, *ffn_norm = nullptr, *gate = nullptr, *up = nullptr, *down = nullptr;
};
struct ModelWeights {
  const Weight *token_embd = nullptr, *output_norm = nullptr, *output = nullptr;  // output is token_embd where they are tied
  std::vector<LayerWeights> layers;
};

/// Along which axis ranks of a tensor-parallel group divide a weight.
enum class ShardAxis { none, out, in };

struct WeightSpec {
  std::string name;                // in the file
  int64_t out = 1, in = 0;         // a matrix [out, in], or with out = 1 a vector [in]
  ShardAxis shard = ShardAxis::none;
  bool may_quantize = false;       // else f32, f16 or bf16
  int64_t unpermute_head_dim = 0;  // as in WeightBytes
  int32_t layer = -1;              // where its pointer goes: a member of layers[layer], or of the model
  std::variant<const Weight* ModelWeights::*, const Weight* LayerWeights::*> slot;

  const Weight*& place(ModelWeights& weights) const;
};

std::vector<WeightSpec> weight_manifest(const ModelConfig& config);

/// The tensor of a spec if it is there with the right shape and an allowed type; the error names tensor and file.
Result<const TensorView*> find_weight(const WeightSource& source, const WeightSpec& spec);

/// All of them, and that the source holds no tensor that nobody would read: a file with one is of a model we do not know.
Result<std::vector<const TensorView*>> find_weights(const WeightSource& source, const std::vector<WeightSpec>& manifest);

}  // namespace pagemill
