#include "format/random_model.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include <fmt/format.h>

#include "base/check.h"
#include "format/gguf.h"
#include "format/random_blocks.h"
#include "format/random_vocabulary.h"

namespace pagemill {
namespace {

constexpr size_t kChunkBytes = 1u << 20;

struct Shape {
  std::string_view name, architecture, pre_tokenizer;
  int32_t layers, hidden, ffn, heads, kv_heads, vocab, context;
  double rope_theta, rms_eps;
  bool tied_embeddings;
};

// In the tiny llama four query heads share a KV head and every block type divides the rows; in the tiny qwen2 K blocks do not.
constexpr Shape kShapes[] = {
    {"smollm2-135m", "llama", "smollm", 30, 576, 1'536, 9, 3, 49'152, 8'192, 1e5, 1e-5, true},
    {"qwen2.5-0.5b", "qwen2", "qwen2", 24, 896, 4'864, 14, 2, 151'936, 32'768, 1e6, 1e-6, true},
    {"qwen2.5-7b", "qwen2", "qwen2", 28, 3'584, 18'944, 28, 4, 152'064, 32'768, 1e6, 1e-6, false},
    {"llama-3-8b", "llama", "llama-bpe", 32, 4'096, 14'336, 32, 8, 128'256, 8'192, 5e5, 1e-5, false},
    {"tiny-llama", "llama", "smollm", 3, 256, 768, 8, 2, 512, 2'048, 1e4, 1e-5, true},
    {"tiny-qwen2", "qwen2", "qwen2", 2, 192, 416, 6, 2, 512, 2'048, 1e6, 1e-6, false},
};

void set_hyper_parameters(GgufHeader& header, const RandomModelSpec& spec) {
  const auto key = [&](std::string_view name) { return fmt::format("{}.{}", spec.architecture, name); };
  const auto count = [](int32_t value) { return static_cast<uint64_t>(value); };
  header.set("general.architecture", spec.architecture);
  header.set("general.name", spec.name);
  header.set("general.file_type", uint64_t{gguf_file_type(spec.types)});
  header.set("general.quantization_version", uint64_t{2});
  header.set(key("context_length"), count(spec.context));
  header.set(key("embedding_length"), count(spec.hidden));
  header.set(key("block_count"), count(spec.layers));
  header.set(key("feed_forward_length"), count(spec.ffn));
  header.set(key("attention.head_count"), count(spec.heads));
  header.set(key("attention.head_count_kv"), count(spec.kv_heads));
  header.set(key("attention.key_length"), count(spec.head_dim));
  header.set(key("attention.value_length"), count(spec.head_dim));
  header.set(key("attention.layer_norm_rms_epsilon"), static_cast<double>(static_cast<float>(spec.rms_eps)));
  header.set(key("rope.dimension_count"), count(spec.head_dim));
  header.set(key("rope.freq_base"), spec.rope_theta);
  header.set(key("vocab_size"), count(spec.vocab));
}

void add_tensors(GgufHeader& header, const RandomModelSpec& spec) {
  const auto add = [&](const std::string& name, std::vector<int64_t> shape, bool is_output = false) {
    const DType dtype = tensor_dtype(spec.types, name, shape, spec.layers, is_output);
    header.add_tensor(name, dtype, std::move(shape));
  };
  const int64_t q = int64_t{spec.heads} * spec.head_dim, kv = int64_t{spec.kv_heads} * spec.head_dim;
  add("token_embd.weight", {spec.vocab, spec.hidden}, spec.tied_embeddings);
  for (int32_t layer = 0; layer < spec.layers; ++layer) {
    const std::string prefix = fmt::format("blk.{}.", layer);
    add(prefix + "attn_norm.weight", {spec.hidden});
    add(prefix + "attn_q.weight", {q, spec.hidden});
    add(prefix + "attn_k.weight", {kv, spec.hidden});
    add(prefix + "attn_v.weight", {kv, spec.hidden});
    if (spec.architecture == "qwen2") {
      add(prefix + "attn_q.bias", {q});
      add(prefix + "attn_k.bias", {kv});
      add(prefix + "attn_v.bias", {kv});
    }
    add(prefix + "attn_output.weight", {spec.hidden, q});
    add(prefix + "ffn_norm.weight", {spec.hidden});
    add(prefix + "ffn_gate.weight", {spec.ffn, spec.hidden});
    add(prefix + "ffn_up.weight", {spec.ffn, spec.hidden});
    add(prefix + "ffn_down.weight", {spec.hidden, spec.ffn});
  }
  add("output_norm.weight", {spec.hidden});
  if (!spec.tied_embeddings) add("output.weight", {spec.vocab, spec.hidden}, true);
}

// Inputs of a matrix are normed (root mean square 1), so with a deviation of g / sqrt(in) its outputs have deviation g.
RandomValues values_of(const RandomModelSpec& spec, const GgufHeader::Tensor& tensor) {
  const std::string_view name = tensor.name;
  const double per_input = 1 / std::sqrt(static_cast<double>(tensor.shape.back()));
  if (name.ends_with("norm.weight")) return {1, 0.3};
  if (name.ends_with("attn_v.bias")) return {0, 0.3};
  if (name.ends_with(".bias")) return {0, 0.5};
  // q·k / sqrt(head_dim) has a deviation of 1.7² ≈ 3.
  if (name.ends_with("attn_q.weight") || name.ends_with("attn_k.weight")) return {0, 1.7 * per_input};
  if (name.ends_with("ffn_down.weight")) return {0, 1.5 * per_input};
  if (name == "output.weight" || (name == "token_embd.weight" && spec.tied_embeddings)) return {0, 3 * per_input};
  if (name == "token_embd.weight") return {0, 1};
  return {0, per_input};
}

// The tensor's bytes in pieces of kChunkBytes or less.
Result<void> generate(const RandomModelSpec& spec, const GgufHeader& header, size_t index,
                      const std::function<Result<void>(std::span<const std::byte>)>& sink) {
  const GgufHeader::Tensor& tensor = header.tensors()[index];
  SplitMix64 seeds(spec.seed ^ index << 32);
  RandomBlocks blocks(tensor.dtype, values_of(spec, tensor), seeds());
  const auto block_bytes = static_cast<size_t>(traits(tensor.dtype).block_bytes);
  std::vector<std::byte> chunk(std::min<uint64_t>(kChunkBytes / block_bytes * block_bytes, tensor.bytes));
  for (uint64_t done = 0; done < tensor.bytes; done += chunk.size()) {
    chunk.resize(std::min<uint64_t>(chunk.size(), tensor.bytes - done));
    blocks.fill(chunk);
    PM_TRY(sink(chunk));
  }
  return {};
}

}  // namespace

std::optional<RandomModelSpec> random_model_spec(std::string_view shape) {
  for (const Shape& known : kShapes) {
    if (known.name != shape) continue;
    return RandomModelSpec{
        .architecture = std::string(known.architecture),
        .name = fmt::format("random weights in the shape of {}", shape),
        .layers = known.layers,
        .hidden = known.hidden,
        .ffn = known.ffn,
        .heads = known.heads,
        .kv_heads = known.kv_heads,
        .head_dim = known.hidden / known.heads,
        .vocab = known.vocab,
        .context = known.context,
        .rope_theta = known.rope_theta,
        .rms_eps = known.rms_eps,
        .tied_embeddings = known.tied_embeddings,
        .pre_tokenizer = std::string(known.pre_tokenizer),
    };
  }
  return std::nullopt;
}

std::string random_model_shapes() {
  std::string names;
  for (const Shape& shape : kShapes) names += fmt::format("{}{}", names.empty() ? "" : ", ", shape.name);
  return names;
}

GgufHeader random_model_header(const RandomModelSpec& spec) {
  PM_CHECK(spec.vocab >= kRandomVocabMin && spec.layers > 0 && spec.kv_heads > 0 && spec.heads % spec.kv_heads == 0);
  GgufHeader header;
  set_hyper_parameters(header, spec);
  set_random_vocabulary(header, spec.vocab, spec.pre_tokenizer);
  add_tensors(header, spec);
  return header;
}

std::vector<std::byte> random_tensor(const RandomModelSpec& spec, const GgufHeader& header, size_t index) {
  std::vector<std::byte> bytes;
  bytes.reserve(header.tensors()[index].bytes);
  const auto result = generate(spec, header, index, [&](std::span<const std::byte> chunk) {
    bytes.insert(bytes.end(), chunk.begin(), chunk.end());
    return Result<void>();
  });
  PM_CHECK(result.has_value());
  return bytes;
}

std::string random_model_bytes(const RandomModelSpec& spec) {
  const GgufHeader header = random_model_header(spec);
  std::vector<std::vector<std::byte>> data;
  for (size_t i = 0; i < header.tensors().size(); ++i) data.push_back(random_tensor(spec, header, i));
  return gguf_bytes(header, data);
}

std::unique_ptr<WeightSource> open_random_model(const RandomModelSpec& spec) {
  auto source = open_gguf_image(spec.name, random_model_bytes(spec));
  PM_CHECK(source.has_value(), "{}", source.error().message);
  return std::move(*source);
}

Result<void> write_random_model(const RandomModelSpec& spec, const std::filesystem::path& path,
                                const std::function<void(double)>& progress) {
  const GgufHeader header = random_model_header(spec);
  PM_ASSIGN(GgufWriter writer, GgufWriter::create(path, header));
  uint64_t done = 0;
  for (size_t i = 0; i < header.tensors().size(); ++i) {
    PM_TRY(generate(spec, header, i, [&](std::span<const std::byte> chunk) -> Result<void> {
      done += chunk.size();
      if (progress) progress(static_cast<double>(done) / static_cast<double>(header.data_bytes()));
      return writer.append(chunk);
    }));
  }
  return writer.finish();
}

}  // namespace pagemill
