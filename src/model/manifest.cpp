#include "model/manifest.h"

#include <unordered_set>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "model/family.h"

namespace pagemill {
namespace {

/// Read while reading the configuration.
constexpr std::string_view kRopeFrequencies = "rope_freqs.weight";

std::vector<int64_t> shape_of(const WeightSpec& spec) {
  return spec.out == 1 ? std::vector<int64_t>{spec.in} : std::vector<int64_t>{spec.out, spec.in};
}

}  // namespace

const Weight*& WeightSpec::place(ModelWeights& weights) const {
  if (layer < 0) return weights.*std::get<const Weight * ModelWeights::*>(slot);
  return weights.layers[static_cast<size_t>(layer)].*std::get<const Weight * LayerWeights::*>(slot);
}

std::vector<WeightSpec> weight_manifest(const ModelConfig& config) {
  const int64_t hidden = config.hidden, ffn = config.ffn, vocab = config.vocab;
  const int64_t q_out = int64_t{config.heads} * config.head_dim, kv_out = int64_t{config.kv_heads} * config.head_dim;
  const Family* family = find_family(config.architecture);
  const int64_t unpermute = family != nullptr && family->interleaved_qk ? config.head_dim : 0;

  std::vector<WeightSpec> list;
  const auto vector = [&](std::string name, int64_t in, ShardAxis shard, int32_t layer, auto slot) {
    list.push_back({.name = std::move(name), .in = in, .shard = shard, .layer = layer, .slot = slot});
  };
  const auto matrix = [&](std::string name, int64_t out, int64_t in, ShardAxis shard, int32_t layer, auto slot,
                          int64_t head_dim = 0) {
    list.push_back({std::move(name), out, in, shard, true, head_dim, layer, slot});
  };
  using M = ModelWeights;
  using L = LayerWeights;
  matrix("token_embd.weight", vocab, hidden, ShardAxis::out, -1, &M::token_embd);
  for (int32_t layer = 0; layer < config.layers; ++layer) {
    const auto name = [&](std::string_view part) { return fmt::format("blk.{}.{}", layer, part); };
    vector(name("attn_norm.weight"), hidden, ShardAxis::none, layer, &L::attn_norm);
    matrix(name("attn_q.weight"), q_out, hidden, ShardAxis::out, layer, &L::q, unpermute);
    matrix(name("attn_k.weight"), kv_out, hidden, ShardAxis::out, layer, &L::k, unpermute);
    matrix(name("attn_v.weight"), kv_out, hidden, ShardAxis::out, layer, &L::v);
    if (config.qkv_bias) {
      vector(name("attn_q.bias"), q_out, ShardAxis::in, layer, &L::q_bias);
      vector(name("attn_k.bias"), kv_out, ShardAxis::in, layer, &L::k_bias);
      vector(name("attn_v.bias"), kv_out, ShardAxis::in, layer, &L::v_bias);
    }
    matrix(name("attn_output.weight"), hidden, q_out, ShardAxis::in, layer, &L::attn_output);
    vector(name("ffn_norm.weight"), hidden, ShardAxis::none, layer, &L::ffn_norm);
    matrix(name("ffn_gate.weight"), ffn, hidden, ShardAxis::out, layer, &L::gate);
    matrix(name("ffn_up.weight"), ffn, hidden, ShardAxis::out, layer, &L::up);
    matrix(name("ffn_down.weight"), hidden, ffn, ShardAxis::in, layer, &L::down);
  }
  vector("output_norm.weight", hidden, ShardAxis::none, -1, &M::output_norm);
  if (!config.tied_embeddings) matrix("output.weight", vocab, hidden, ShardAxis::out, -1, &M::output);
  return list;
}

Result<const TensorView*> find_weight(const WeightSource& source, const WeightSpec& spec) {
  const TensorView* tensor = source.find_tensor(spec.name);
  if (tensor == nullptr) return fail(ErrorCode::invalid_file, fmt::format("{}: tensor {} is missing", source.name(), spec.name), spec.name);
  const std::vector<int64_t> expected = shape_of(spec);
  if (tensor->shape != expected)
    return fail(ErrorCode::invalid_file, fmt::format("{}: tensor {} has shape [{}], but the model's dimensions ask for [{}]", source.name(),
                                                     spec.name, fmt::join(tensor->shape, ", "), fmt::join(expected, ", ")), spec.name);
  const DTypeTraits& type = traits(tensor->dtype);
  if (type.quantized && !spec.may_quantize)
    return fail(ErrorCode::unsupported, fmt::format("{}: tensor {} is {}; it must be f32, f16 or bf16", source.name(), spec.name, type.name),
                spec.name);
  if (spec.in % type.block_elems != 0 || tensor->bytes.size() != static_cast<size_t>(row_bytes(type.dtype, spec.in) * spec.out))
    return fail(ErrorCode::invalid_file, fmt::format("{}: tensor {} has {} bytes, which is not {} rows of {} × {}", source.name(), spec.name,
                                                     tensor->bytes.size(), spec.out, spec.in, type.name), spec.name);
  return tensor;
}

Result<std::vector<const TensorView*>> find_weights(const WeightSource& source, const std::vector<WeightSpec>& manifest) {
  std::vector<const TensorView*> found;
  std::unordered_set<std::string_view> known{kRopeFrequencies};
  for (const WeightSpec& spec : manifest) {
    PM_ASSIGN(const TensorView* tensor, find_weight(source, spec));
    found.push_back(tensor);
    known.insert(spec.name);
  }
  for (const TensorView& tensor : source.tensors())
    if (!known.contains(tensor.name))
      return fail(ErrorCode::unsupported, fmt::format("{}: tensor {} is not part of a model of this architecture that this build can run",
                                                      source.name(), tensor.name), tensor.name);
  return found;
}

}  // namespace pagemill
