#include "format/inspect.h"

#include <algorithm>
#include <filesystem>
#include <functional>
#include <numeric>

#include <fmt/format.h>

#include "base/limits.h"

namespace pagemill {
namespace {

void count_tensors(const WeightSource& source, ModelSummary& summary) {
  for (const TensorView& tensor : source.tensors()) {
    const int64_t elements = std::accumulate(tensor.shape.begin(), tensor.shape.end(), int64_t{1}, std::multiplies<>());
    auto share = std::find_if(summary.types.begin(), summary.types.end(), [&](const TypeShare& s) { return s.dtype == tensor.dtype; });
    if (share == summary.types.end()) share = summary.types.insert(share, TypeShare{tensor.dtype});
    const auto bytes = static_cast<int64_t>(tensor.bytes.size());
    share->tensors += 1;
    share->elements += elements;
    share->bytes += bytes;
    summary.parameters += elements;
    summary.tensor_bytes += bytes;
  }
  std::stable_sort(summary.types.begin(), summary.types.end(), [](const TypeShare& a, const TypeShare& b) { return a.bytes > b.bytes; });
}

/// Hyper-parameters under the architecture's prefix.
class Parameters {
 public:
  Parameters(const WeightSource& source, std::string architecture) : source_(source), architecture_(std::move(architecture)) {}

  std::optional<int64_t> get(std::string_view key, int64_t max) const {
    return source_.integer(architecture_ + "." + std::string(key), 1, max).value_or(std::nullopt);
  }
  /// A layer's own where the file has a list, else the common one.
  std::optional<int64_t> sum_over_layers(std::string_view key, int64_t layers, int64_t max) const {
    if (const auto common = get(key, max)) return *common * layers;
    const auto each = source_.integers(architecture_ + "." + std::string(key), 0, max).value_or(std::nullopt);
    if (!each || static_cast<int64_t>(each->size()) != layers) return std::nullopt;
    return std::accumulate(each->begin(), each->end(), int64_t{0});
  }

 private:
  const WeightSource& source_;
  std::string architecture_;
};

void read_hyper_parameters(const WeightSource& source, ModelSummary& summary) {
  const Parameters parameters(source, summary.architecture);
  summary.layers = parameters.get("block_count", limits::kModelLayers);
  summary.hidden = parameters.get("embedding_length", limits::kModelHidden);
  summary.ffn = parameters.get("feed_forward_length", limits::kModelHidden);
  summary.heads = parameters.get("attention.head_count", limits::kModelHeads);
  summary.context = parameters.get("context_length", limits::kModelContext);
  summary.kv_heads = parameters.get("attention.head_count_kv", limits::kModelHeads);
  if (!summary.kv_heads && !source.find_metadata(summary.architecture + ".attention.head_count_kv")) summary.kv_heads = summary.heads;
  std::optional<int64_t> by_division;
  if (summary.hidden && summary.heads && *summary.hidden % *summary.heads == 0) by_division = *summary.hidden / *summary.heads;
  const auto key_length = parameters.get("attention.key_length", limits::kModelHidden);
  const auto value_length = parameters.get("attention.value_length", limits::kModelHidden);
  summary.head_dim = key_length ? key_length : by_division;
  const auto value_dim = value_length ? value_length : by_division;
  const StringArray* tokens = source.strings("tokenizer.ggml.tokens").value_or(nullptr);
  summary.vocab = tokens ? static_cast<int64_t>(tokens->size()) : parameters.get("vocab_size", limits::kModelVocab);

  if (!summary.layers || !summary.head_dim || !value_dim) return;
  std::optional<int64_t> heads = parameters.sum_over_layers("attention.head_count_kv", *summary.layers, limits::kModelHeads);
  if (!heads && summary.kv_heads) heads = *summary.kv_heads * *summary.layers;
  if (heads) summary.kv_elements_per_token = *heads * (*summary.head_dim + *value_dim);
}

}  // namespace

ModelSummary summarize_model(const WeightSource& source) {
  ModelSummary summary;
  summary.file = source.name();
  summary.architecture = source.string("general.architecture").value_or(std::nullopt).value_or("");
  summary.name = source.string("general.name").value_or(std::nullopt).value_or("");
  if (summary.name.empty()) summary.name = std::filesystem::path(summary.file).stem().string();
  count_tensors(source, summary);
  if (!summary.architecture.empty()) read_hyper_parameters(source, summary);
  return summary;
}

std::optional<int64_t> kv_bytes_per_token(const ModelSummary& summary, DType kv_dtype) {
  if (!summary.kv_elements_per_token) return std::nullopt;
  const DTypeTraits& t = traits(kv_dtype);
  return *summary.kv_elements_per_token * t.block_bytes / t.block_elems;
}

std::string describe_types(const ModelSummary& summary) {
  std::string out;
  for (const TypeShare& share : summary.types) {
    if (!out.empty() && share.bytes < summary.tensor_bytes / 20) continue;
    out += fmt::format("{}{}", out.empty() ? "" : " + ", to_string(share.dtype));
  }
  return out;
}

}  // namespace pagemill
