// ModelConfig: the hyper-parameters of a decoder-only transformer of the llama and qwen2 families, checked for range and
// for consistency with each other before anything is allocated from them.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/json.h"
#include "base/result.h"
#include "format/weight_source.h"

namespace pagemill {

/// Bounds of what a file or an override may ask for.
inline constexpr double kRopeThetaMin = 1.01, kRopeThetaMax = 1e15, kRopeFactorMax = 1e4;

enum class RopeScaling { none, linear, yarn, llama3 };

struct RopeConfig {
  double theta = 10'000;
  int32_t rotary_dim = 0;
  RopeScaling scaling = RopeScaling::none;
  double factor = 1;
  int32_t original_context = 0;          // yarn, llama3
  double attention_factor = 0;           // yarn; 0 = 0.1 · ln(factor) + 1
  double beta_fast = 32, beta_slow = 1;  // yarn
  double low_freq_factor = 1, high_freq_factor = 4;  // llama3
  std::vector<float> freq_divisors;      // rope_freqs.weight: each frequency is divided by it; empty = none
};

struct ModelConfig {
  std::string architecture;  // "llama", "qwen2"
  std::string name;
  int32_t layers = 0;
  int32_t hidden = 0;
  int32_t ffn = 0;
  int32_t heads = 0;
  int32_t kv_heads = 0;
  int32_t head_dim = 0;
  int32_t vocab = 0;
  int32_t context_max = 0;   // tokens, with RoPE scaling taken into account
  float rms_eps = 1e-5f;
  RopeConfig rope;
  bool qkv_bias = false;
  bool tied_embeddings = false;
};

/// Reads and checks the configuration. `overrides` is an object as in HF's config.json (--hf-overrides): rope_parameters or
/// rope_scaling, rope_theta, max_position_embeddings; other keys are refused by name.
Result<ModelConfig> read_model_config(const WeightSource& source, const json::object& overrides = {});

/// KV bytes that one token takes over all layers.
int64_t kv_bytes_per_token(const ModelConfig& config, DType kv_dtype);

}  // namespace pagemill
