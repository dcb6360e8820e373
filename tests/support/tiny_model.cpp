#include "support/tiny_model.h"

#include <cmath>
#include <cstring>

#include "base/check.h"
#include "base/rng.h"
#include "format/gguf.h"
#include "format/random_model.h"

namespace pagemill {
namespace {

struct TinyShape {
  std::string_view name, architecture;
  int32_t heads, kv_heads, head_dim;
  double theta = 10'000;
  bool tied = false;
  DType dtype = DType::f32;
  std::string_view scaling;  // in GGUF keys
  double factor = 1;
  int32_t original_context = 0;
  std::string_view overrides = "{}";
};

// The same table as TINY in script/goldens/logits.py.
const TinyShape kShapes[] = {
    {"tiny-llama-mha", "llama", 4, 4, 12},
    {.name = "tiny-llama-gqa3", .architecture = "llama", .heads = 6, .kv_heads = 2, .head_dim = 16, .theta = 500'000, .tied = true,
     .overrides = R"({"rope_parameters": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                      "original_max_position_embeddings": 64}})"},
    {.name = "tiny-llama-gqa4", .architecture = "llama", .heads = 8, .kv_heads = 2, .head_dim = 10, .dtype = DType::f16,
     .scaling = "linear", .factor = 2.5},
    {.name = "tiny-qwen2-gqa7", .architecture = "qwen2", .heads = 14, .kv_heads = 2, .head_dim = 8,
     .scaling = "yarn", .factor = 4, .original_context = 40},
    {.name = "tiny-qwen2-tied", .architecture = "qwen2", .heads = 3, .kv_heads = 1, .head_dim = 16, .theta = 1'000'000, .tied = true},
};

const TinyShape& shape_of(std::string_view name) {
  for (const TinyShape& shape : kShapes)
    if (shape.name == name) return shape;
  PM_CHECK(false, "no tiny model is called {}", name);
  std::abort();
}

uint64_t fnv1a(std::string_view text) {
  uint64_t value = 0xCBF29CE484222325;
  for (const char c : text) value = (value ^ static_cast<unsigned char>(c)) * 0x100000001B3;
  return value;
}

struct Values {
  double scale, offset;
};

Values values_of(std::string_view name, double inputs) {
  if (name.ends_with("norm.weight")) return {0.75, 1.25};
  if (name.ends_with(".bias")) return {1.5, 0.25};
  if (name == "token_embd.weight" || name == "output.weight") return {8.0 / std::sqrt(inputs), 0};
  if (name.find("attn_q") != name.npos || name.find("attn_k") != name.npos) return {4.0 / std::sqrt(inputs), 0};
  return {1.75 / std::sqrt(inputs), 0};
}

std::vector<std::byte> tensor_bytes(const GgufHeader::Tensor& tensor) {
  const auto [scale, offset] = values_of(tensor.name, static_cast<double>(tensor.shape.back()));
  SplitMix64 random(fnv1a(tensor.name));
  const size_t width = static_cast<size_t>(traits(tensor.dtype).block_bytes);
  std::vector<std::byte> bytes(tensor.bytes);
  for (size_t at = 0; at < bytes.size(); at += width) {
    const auto value = static_cast<float>((random.uniform() * 2 - 1) * scale + offset);
    const uint16_t half = f32_to_f16(value);
    std::memcpy(bytes.data() + at, tensor.dtype == DType::f16 ? static_cast<const void*>(&half) : &value, width);
  }
  return bytes;
}

}  // namespace

std::vector<std::string> tiny_model_names() {
  std::vector<std::string> names;
  for (const TinyShape& shape : kShapes) names.emplace_back(shape.name);
  return names;
}

TinyModel open_tiny_model(std::string_view name, const std::vector<float>& rope_freqs) {
  const TinyShape& shape = shape_of(name);
  const std::string architecture(shape.architecture);
  GgufHeader header = random_model_header({
      .architecture = architecture, .name = std::string(name), .layers = 3, .hidden = 48, .ffn = 80, .heads = shape.heads,
      .kv_heads = shape.kv_heads, .head_dim = shape.head_dim, .vocab = 320, .context = 4096, .rope_theta = shape.theta,
      .rms_eps = 1e-5, .tied_embeddings = shape.tied, .pre_tokenizer = architecture == "llama" ? "smollm" : "qwen2",
      .types = {.base = shape.dtype}});
  if (!shape.scaling.empty()) {
    header.set(architecture + ".rope.scaling.type", std::string(shape.scaling));
    header.set(architecture + ".rope.scaling.factor", shape.factor);
  }
  if (shape.original_context > 0)
    header.set(architecture + ".rope.scaling.original_context_length", static_cast<uint64_t>(shape.original_context));
  std::vector<std::vector<std::byte>> data;
  for (const GgufHeader::Tensor& tensor : header.tensors()) data.push_back(tensor_bytes(tensor));
  if (!rope_freqs.empty()) {
    header.add_tensor("rope_freqs.weight", DType::f32, {static_cast<int64_t>(rope_freqs.size())});
    const auto bytes = std::as_bytes(std::span(rope_freqs));
    data.emplace_back(bytes.begin(), bytes.end());
  }
  auto source = open_gguf_image(std::string(name), gguf_bytes(header, data));
  PM_CHECK(source.has_value(), "{}", source.error().message);
  TinyModel model{.source = std::move(*source)};
  if (rope_freqs.empty()) model.overrides = parse_json(shape.overrides).value().as_object();
  return model;
}

}  // namespace pagemill
