// Tiny models whose weights a few lines of any language can make, so that an independent implementation computes the same
// model: script/goldens/logits.py builds them for HF transformers. Attention is peaked, norm weights and biases lie far from 1 and 0.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "format/weight_source.h"

namespace pagemill {

struct TinyModel {
  std::unique_ptr<WeightSource> source;  // a GGUF file in memory
  json::object overrides;                // what GGUF's keys cannot say
};

/// tiny-llama-mha, tiny-llama-gqa3 (llama3 scaling, tied), tiny-llama-gqa4 (f16, linear scaling), tiny-qwen2-gqa7 (yarn), tiny-qwen2-tied.
std::vector<std::string> tiny_model_names();

/// With `rope_freqs` the file holds them as rope_freqs.weight, and there are no overrides.
TinyModel open_tiny_model(std::string_view name, const std::vector<float>& rope_freqs = {});

}  // namespace pagemill
