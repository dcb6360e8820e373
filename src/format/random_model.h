// Models with random weights: true shapes for measuring speed, tiny ones for tests. Never for quality.
//
// The weights are made so that mistakes show: attention is peaked (scores with a standard deviation of about 3), norm weights and
// biases lie away from 1 and 0, no two layers are alike. Activations stay finite and the logits have a standard deviation of about 3.
// A file depends on nothing but its spec.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "format/gguf_writer.h"
#include "format/type_mix.h"
#include "format/weight_source.h"

namespace pagemill {

struct RandomModelSpec {
  std::string architecture;  // "llama", or "qwen2": with biases on q, k and v
  std::string name;
  int32_t layers = 0;
  int32_t hidden = 0;
  int32_t ffn = 0;
  int32_t heads = 0;
  int32_t kv_heads = 0;
  int32_t head_dim = 0;
  int32_t vocab = 0;    // at least kRandomVocabMin
  int32_t context = 0;  // tokens
  double rope_theta = 10'000;
  double rms_eps = 1e-5;
  bool tied_embeddings = false;
  std::string pre_tokenizer;  // "smollm", "qwen2", "llama-bpe"
  TypeMix types;
  uint64_t seed = 1;
};

/// 256 bytes and the three special tokens.
inline constexpr int32_t kRandomVocabMin = 259;

/// smollm2-135m, qwen2.5-0.5b, qwen2.5-7b, llama-3-8b, tiny-llama (3 layers, hidden 256), tiny-qwen2 (2 layers, hidden 192).
/// Types f16, seed 1. Nothing for other names.
std::optional<RandomModelSpec> random_model_spec(std::string_view shape);
/// The names above, for messages.
std::string random_model_shapes();

/// Metadata (with a byte-level vocabulary and a ChatML template) and tensor infos. Change or add to them before making the file.
GgufHeader random_model_header(const RandomModelSpec& spec);
/// The bytes of tensor `index` of the header; any type, any order.
std::vector<std::byte> random_tensor(const RandomModelSpec& spec, const GgufHeader& header, size_t index);

/// A whole file in memory, for tiny shapes.
std::string random_model_bytes(const RandomModelSpec& spec);
/// A tiny model, ready for Model::load and TextModel::from_source.
std::unique_ptr<WeightSource> open_random_model(const RandomModelSpec& spec);

/// Streams a file to disk; holds a few MB. `progress` gets the share done, 0 … 1.
Result<void> write_random_model(const RandomModelSpec& spec, const std::filesystem::path& path,
                                const std::function<void(double)>& progress = {});

}  // namespace pagemill
