#include "model/config.h"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "base/dequantize.h"
#include "model/config_overrides.h"
#include "model/family.h"

namespace pagemill {
namespace {

constexpr int32_t kHeadDimMax = 1'024;
constexpr int32_t kFfnMax = 1 << 22;
constexpr std::string_view kRopeFrequencies = "rope_freqs.weight";

/// Reads the keys of one architecture: "context_length" is "llama.context_length".
class KeyReader {
 public:
  KeyReader(const WeightSource& source, std::string architecture) : source_(source), architecture_(std::move(architecture)) {}

  std::string key(std::string_view name) const { return fmt::format("{}.{}", architecture_, name); }
  const WeightSource& source() const { return source_; }

  Result<int32_t> required(std::string_view name, int32_t min, int32_t max) const {
    PM_ASSIGN(const int64_t value, source_.required_integer(key(name), min, max));
    return static_cast<int32_t>(value);
  }
  Result<int32_t> optional(std::string_view name, int32_t min, int32_t max, int32_t fallback) const {
    PM_ASSIGN(const std::optional<int64_t> value, source_.integer(key(name), min, max));
    return static_cast<int32_t>(value.value_or(fallback));
  }
  Result<double> number(std::string_view name, double min, double max, double fallback) const {
    PM_ASSIGN(const std::optional<double> value, source_.number(key(name)));
    const double number = value.value_or(fallback);
    if (!(number >= min && number <= max)) return wrong(name, fmt::format("is {}, outside {} … {}", number, min, max));
    return number;
  }
  tl::unexpected<Error> wrong(std::string_view name, std::string_view problem) const {
    return fail(ErrorCode::invalid_file, fmt::format("{}: {} {}", source_.name(), key(name), problem), key(name));
  }
  tl::unexpected<Error> unsupported(std::string_view name, std::string_view problem) const {
    return fail(ErrorCode::unsupported, fmt::format("{}: {} {}", source_.name(), key(name), problem), key(name));
  }

 private:
  const WeightSource& source_;
  std::string architecture_;
};

/// head_count_kv is a number, or in newer files an array with one per layer; only equal ones are supported.
Result<int32_t> read_kv_heads(const KeyReader& keys, const ModelConfig& config) {
  constexpr std::string_view kName = "attention.head_count_kv";
  const MetadataValue* found = keys.source().find_metadata(keys.key(kName));
  const auto* array = found == nullptr ? nullptr : std::get_if<MetadataArray>(&found->value);
  if (array == nullptr) return keys.optional(kName, 1, config.heads, config.heads);
  std::vector<int64_t> values;
  if (const auto* as_signed = std::get_if<std::vector<int64_t>>(array)) values = *as_signed;
  if (const auto* as_unsigned = std::get_if<std::vector<uint64_t>>(array)) values.assign(as_unsigned->begin(), as_unsigned->end());
  if (static_cast<int64_t>(values.size()) != config.layers)
    return keys.wrong(kName, fmt::format("must be an integer or one for each of {} layers", config.layers));
  if (std::adjacent_find(values.begin(), values.end(), std::not_equal_to<>{}) != values.end())
    return keys.unsupported(kName, "differs between layers, which this build cannot run");
  if (values[0] < 1 || values[0] > config.heads) return keys.wrong(kName, fmt::format("is {}, outside 1 … {}", values[0], config.heads));
  return static_cast<int32_t>(values[0]);
}

Result<void> read_dimensions(const KeyReader& keys, ModelConfig& config) {
  PM_ASSIGN(config.layers, keys.required("block_count", 1, limits::kModelLayers));
  PM_ASSIGN(config.hidden, keys.required("embedding_length", 1, limits::kModelHidden));
  PM_ASSIGN(config.ffn, keys.required("feed_forward_length", 1, kFfnMax));
  PM_ASSIGN(config.heads, keys.required("attention.head_count", 1, limits::kModelHeads));
  PM_ASSIGN(config.kv_heads, read_kv_heads(keys, config));
  PM_ASSIGN(config.context_max, keys.required("context_length", 1, limits::kModelContext));
  if (config.heads % config.kv_heads != 0)
    return keys.wrong("attention.head_count_kv", fmt::format("is {}, which does not divide {} heads", config.kv_heads, config.heads));

  PM_ASSIGN(config.head_dim, keys.optional("attention.key_length", 1, kHeadDimMax, 0));
  if (config.head_dim == 0) {
    if (config.hidden % config.heads != 0)
      return keys.wrong("attention.head_count", fmt::format("is {}, which does not divide embedding_length {}", config.heads, config.hidden));
    config.head_dim = config.hidden / config.heads;
  }
  if (config.head_dim % 2 != 0 || config.head_dim > kHeadDimMax)
    return keys.wrong("attention.key_length", fmt::format("(values per head) is {}; it must be even and at most {}", config.head_dim, kHeadDimMax));
  PM_ASSIGN(const int32_t value_length, keys.optional("attention.value_length", 1, kHeadDimMax, config.head_dim));
  if (value_length != config.head_dim) return keys.unsupported("attention.value_length", "differs from the keys' length");

  constexpr std::string_view kEpsilon = "attention.layer_norm_rms_epsilon";
  if (keys.source().find_metadata(keys.key(kEpsilon)) == nullptr) return keys.wrong(kEpsilon, "is missing");
  PM_ASSIGN(const double epsilon, keys.number(kEpsilon, 1e-12, 1e-1, 0));
  config.rms_eps = static_cast<float>(epsilon);
  PM_ASSIGN(const int32_t experts, keys.optional("expert_count", 0, 1 << 20, 0));
  if (experts > 0) return keys.unsupported("expert_count", "says that this is a mixture of experts, which this build cannot run");
  return {};
}

/// A model trained with a sliding window equals full attention up to that length, and no further, whatever scaling or an
/// override says of the context.
Result<void> keep_inside_window(const KeyReader& keys, const json::object& overrides, ModelConfig& config) {
  PM_ASSIGN(const int32_t window, keys.optional("attention.sliding_window", 0, limits::kModelContext, 0));
  if (window == 0 || config.context_max <= window) return {};
  if (overrides.contains("max_position_embeddings"))
    return fail(ErrorCode::invalid_argument,
                fmt::format("max_position_embeddings is more than the model's sliding window of {} tokens, beyond which this build cannot run it", window),
                "max_position_embeddings");
  config.context_max = window;
  return {};
}

Result<void> read_vocabulary(const KeyReader& keys, ModelConfig& config) {
  const WeightSource& source = keys.source();
  const TensorView* embeddings = source.find_tensor("token_embd.weight");
  if (embeddings == nullptr)
    return fail(ErrorCode::invalid_file, fmt::format("{}: tensor token_embd.weight is missing", source.name()), "token_embd.weight");
  const int64_t rows = embeddings->shape.empty() ? 0 : embeddings->shape[0];
  if (rows < 1 || rows > limits::kModelVocab)
    return fail(ErrorCode::invalid_file, fmt::format("{}: tensor token_embd.weight has {} rows; a vocabulary has 1 … {}", source.name(),
                                                     rows, limits::kModelVocab), "token_embd.weight");
  PM_ASSIGN(config.vocab, keys.optional("vocab_size", 1, limits::kModelVocab, static_cast<int32_t>(rows)));
  if (config.vocab != rows) return keys.wrong("vocab_size", fmt::format("is {}, but token_embd.weight has {} rows", config.vocab, rows));
  config.tied_embeddings = source.find_tensor("output.weight") == nullptr;
  return {};
}

/// rope_freqs.weight: Llama 3.1's scaling, worked out by the converter.
Result<void> read_frequency_divisors(const WeightSource& source, RopeConfig& rope) {
  const TensorView* tensor = source.find_tensor(kRopeFrequencies);
  if (tensor == nullptr) return {};
  const auto wrong = [&](std::string_view problem) {
    return fail(ErrorCode::invalid_file, fmt::format("{}: tensor {} {}", source.name(), kRopeFrequencies, problem), std::string(kRopeFrequencies));
  };
  const int64_t pairs = rope.rotary_dim / 2;
  const size_t bytes = static_cast<size_t>(pairs) * sizeof(float);
  if (tensor->shape != std::vector<int64_t>{pairs} || tensor->dtype != DType::f32 || tensor->bytes.size() != bytes)
    return wrong(fmt::format("must be {} values of f32", pairs));
  rope.freq_divisors.resize(static_cast<size_t>(pairs));
  dequantize_row(DType::f32, tensor->bytes, rope.freq_divisors);
  for (const float divisor : rope.freq_divisors)
    if (!(divisor >= 1e-6f && divisor <= 1e6f)) return wrong(fmt::format("holds {}, which cannot divide a frequency", divisor));
  return {};
}

Result<void> read_scaling(const KeyReader& keys, const ModelConfig& config, RopeConfig& rope) {
  PM_ASSIGN(const std::optional<std::string> type, keys.source().string(keys.key("rope.scaling.type")));
  PM_ASSIGN(const double legacy_factor, keys.number("rope.scale_linear", 0, kRopeFactorMax, 0));
  PM_ASSIGN(rope.factor, keys.number("rope.scaling.factor", 0, kRopeFactorMax, legacy_factor));
  if (rope.factor == 0) rope.factor = 1;  // how converters write "none"
  if (rope.factor < 1) return keys.wrong("rope.scaling.factor", fmt::format("is {}; it must be at least 1", rope.factor));
  PM_ASSIGN(rope.original_context, keys.optional("rope.scaling.original_context_length", 1, limits::kModelContext, config.context_max));

  const std::string name = type.value_or(rope.factor > 1 ? "linear" : "none");
  if (name == "none") {
    rope.factor = 1;
  } else if (name == "linear") {
    rope.scaling = RopeScaling::linear;
  } else if (name == "yarn") {
    rope.scaling = RopeScaling::yarn;
    PM_ASSIGN(rope.beta_fast, keys.number("rope.scaling.yarn_beta_fast", 1e-3, 1e6, 32));
    PM_ASSIGN(rope.beta_slow, keys.number("rope.scaling.yarn_beta_slow", 1e-3, 1e6, 1));
    if (rope.beta_fast <= rope.beta_slow) return keys.wrong("rope.scaling.yarn_beta_fast", "must be above yarn_beta_slow");
    // In GGUF the factor multiplies yarn's own; HF's attention_factor replaces it.
    PM_ASSIGN(const double extra, keys.number("rope.scaling.attn_factor", 1e-3, 1e3, 1));
    rope.attention_factor = extra * (0.1 * std::log(rope.factor) + 1);
  } else {
    return keys.unsupported("rope.scaling.type", fmt::format("is {}; known are none, linear and yarn", json_quote(name)));
  }
  return {};
}

Result<void> read_rope(const KeyReader& keys, ModelConfig& config) {
  RopeConfig& rope = config.rope;
  PM_ASSIGN(rope.theta, keys.number("rope.freq_base", kRopeThetaMin, kRopeThetaMax, 10'000));
  PM_ASSIGN(rope.rotary_dim, keys.optional("rope.dimension_count", 1, kHeadDimMax, config.head_dim));
  if (rope.rotary_dim != config.head_dim)
    return keys.unsupported("rope.dimension_count", fmt::format("is {}, but heads have {} values: partial rotation is not supported",
                                                                rope.rotary_dim, config.head_dim));
  PM_TRY(read_scaling(keys, config, rope));
  return read_frequency_divisors(keys.source(), rope);
}

/// What the scaling makes of the context the model was trained on.
int32_t scaled_context(const ModelConfig& config) {
  double context = config.context_max;
  if (config.rope.scaling == RopeScaling::linear) context *= config.rope.factor;
  if (config.rope.scaling == RopeScaling::yarn) context = std::max(context, config.rope.original_context * config.rope.factor);
  return static_cast<int32_t>(std::min<double>(context, limits::kModelContext));
}

}  // namespace

Result<ModelConfig> read_model_config(const WeightSource& source, const json::object& overrides) {
  ModelConfig config;
  PM_ASSIGN(config.architecture, source.required_string("general.architecture"));
  const Family* family = find_family(config.architecture);
  if (family == nullptr)
    return fail(ErrorCode::unsupported, fmt::format("{}: architecture {} is not supported; known are {} and {}", source.name(),
                                                    json_quote(config.architecture), kLlama.architecture, kQwen2.architecture),
                "general.architecture");
  PM_ASSIGN(const std::optional<std::string> name, source.string("general.name"));
  config.name = name.value_or("");
  config.qkv_bias = family->qkv_bias;

  const KeyReader keys(source, config.architecture);
  PM_TRY(read_dimensions(keys, config));
  PM_TRY(read_vocabulary(keys, config));
  PM_TRY(read_rope(keys, config));
  PM_TRY(apply_overrides(overrides, config));
  config.context_max = scaled_context(config);
  PM_TRY(keep_inside_window(keys, overrides, config));
  return config;
}

const Family* find_family(std::string_view architecture) {
  for (const Family* family : {&kLlama, &kQwen2})
    if (family->architecture == architecture) return family;
  return nullptr;
}

int64_t kv_bytes_per_token(const ModelConfig& config, DType kv_dtype) {
  return int64_t{2} * config.layers * config.kv_heads * row_bytes(kv_dtype, config.head_dim);
}

}  // namespace pagemill
