// What a model file amounts to: sizes, types, shape of the decoder, KV bytes per token. From metadata alone.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/dtype.h"
#include "format/weight_source.h"

namespace pagemill {

struct TypeShare {
  DType dtype;
  int64_t tensors = 0;
  int64_t elements = 0;
  int64_t bytes = 0;
};

struct ModelSummary {
  std::string file;
  std::string name;          // general.name, or the file's
  std::string architecture;  // "" if the file does not say
  int64_t parameters = 0;    // elements of all tensors
  int64_t tensor_bytes = 0;
  std::vector<TypeShare> types;  // most bytes first
  // Hyper-parameters that are in the file and in range.
  std::optional<int64_t> layers, hidden, ffn, heads, kv_heads, head_dim, vocab, context;
  /// Elements of keys and values that one token takes over all layers; nothing if the file does not say.
  std::optional<int64_t> kv_elements_per_token;
};

/// Never fails: what is absent or absurd stays empty, loading will name it.
ModelSummary summarize_model(const WeightSource& source);

/// Bytes of a token's keys and values; `kv_dtype` is f32, f16, bf16 or q8_0.
std::optional<int64_t> kv_bytes_per_token(const ModelSummary& summary, DType kv_dtype);

/// The types that make up a twentieth of the bytes or more: "q4_k + q6_k".
std::string describe_types(const ModelSummary& summary);

}  // namespace pagemill
