#include "model/config_overrides.h"

#include <cmath>

#include <fmt/format.h>

namespace pagemill {
namespace {

tl::unexpected<Error> wrong(std::string_view key, std::string_view problem) {
  return fail(ErrorCode::invalid_argument, fmt::format("--hf-overrides: {} {}", key, problem), std::string(key));
}

Result<double> number(const json::value& value, std::string_view key, double min, double max) {
  boost::system::error_code error;
  const double number = value.to_number<double>(error);
  if (error || !value.is_number() || !(number >= min && number <= max))
    return wrong(key, fmt::format("must be a number from {} to {}", min, max));
  return number;
}

Result<int32_t> integer(const json::value& value, std::string_view key, int32_t min, int32_t max) {
  PM_ASSIGN(const double checked, number(value, key, min, max));
  if (checked != std::floor(checked)) return wrong(key, "must be a whole number");
  return static_cast<int32_t>(checked);
}

Result<RopeScaling> scaling_kind(const json::object& object) {
  const json::value* type = object.if_contains("rope_type");
  if (type == nullptr) type = object.if_contains("type");
  if (type == nullptr || !type->is_string()) return wrong("rope_type", "is missing; known are default, linear, yarn and llama3");
  const std::string_view name = type->get_string();
  if (name == "default") return RopeScaling::none;
  if (name == "linear") return RopeScaling::linear;
  if (name == "yarn") return RopeScaling::yarn;
  if (name == "llama3") return RopeScaling::llama3;
  return fail(ErrorCode::unsupported, fmt::format("--hf-overrides: rope_type {} is not supported; known are default, linear, yarn and llama3",
                                                  json_quote(name)), "rope_type");
}

/// Whether keys of this kind of scaling may hold `key`.
bool belongs(std::string_view key, RopeScaling scaling) {
  if (key == "rope_type" || key == "type" || key == "rope_theta") return true;
  if (key == "factor") return scaling != RopeScaling::none;
  if (key == "original_max_position_embeddings") return scaling == RopeScaling::yarn || scaling == RopeScaling::llama3;
  if (key == "attention_factor" || key == "beta_fast" || key == "beta_slow") return scaling == RopeScaling::yarn;
  if (key == "low_freq_factor" || key == "high_freq_factor") return scaling == RopeScaling::llama3;
  return false;
}

Result<void> read_scaling(const json::object& object, int32_t context, RopeConfig& rope) {
  RopeConfig read{.theta = rope.theta, .rotary_dim = rope.rotary_dim};
  PM_ASSIGN(read.scaling, scaling_kind(object));
  read.original_context = context;
  for (const auto& [key, value] : object) {
    if (!belongs(key, read.scaling)) return wrong(key, "does not belong to this rope_type");
    if (key == "factor") {
      PM_ASSIGN(read.factor, number(value, key, 1, kRopeFactorMax));
    } else if (key == "original_max_position_embeddings") {
      PM_ASSIGN(read.original_context, integer(value, key, 1, limits::kModelContext));
    } else if (key == "attention_factor") {
      PM_ASSIGN(read.attention_factor, number(value, key, 1e-3, 1e3));
    } else if (key == "beta_fast") {
      PM_ASSIGN(read.beta_fast, number(value, key, 1e-3, 1e6));
    } else if (key == "beta_slow") {
      PM_ASSIGN(read.beta_slow, number(value, key, 1e-3, 1e6));
    } else if (key == "low_freq_factor") {
      PM_ASSIGN(read.low_freq_factor, number(value, key, 1e-3, 1e6));
    } else if (key == "high_freq_factor") {
      PM_ASSIGN(read.high_freq_factor, number(value, key, 1e-3, 1e6));
    } else if (key == "rope_theta") {
      PM_ASSIGN(read.theta, number(value, key, kRopeThetaMin, kRopeThetaMax));
    }
  }
  if (read.scaling != RopeScaling::none && !object.contains("factor")) return wrong("factor", "is missing");
  if (read.scaling == RopeScaling::llama3 && read.high_freq_factor <= read.low_freq_factor)
    return wrong("high_freq_factor", "must be above low_freq_factor");
  if (read.scaling == RopeScaling::yarn && read.beta_fast <= read.beta_slow) return wrong("beta_fast", "must be above beta_slow");
  rope = read;
  return {};
}

}  // namespace

Result<void> apply_overrides(const json::object& overrides, ModelConfig& config) {
  if (const json::value* value = overrides.if_contains("max_position_embeddings")) {
    PM_ASSIGN(config.context_max, integer(*value, "max_position_embeddings", 1, limits::kModelContext));
  }
  if (const json::value* value = overrides.if_contains("rope_theta")) {
    PM_ASSIGN(config.rope.theta, number(*value, "rope_theta", kRopeThetaMin, kRopeThetaMax));
  }
  if (overrides.contains("rope_scaling") && overrides.contains("rope_parameters"))
    return wrong("rope_scaling", "and rope_parameters say the same thing: give one");
  for (const auto& [key, value] : overrides) {
    if (key == "max_position_embeddings" || key == "rope_theta") continue;
    if (key != "rope_scaling" && key != "rope_parameters")
      return wrong(key, "cannot be overridden; known are rope_scaling, rope_parameters, rope_theta and max_position_embeddings");
    if (value.is_null()) {
      config.rope = {.theta = config.rope.theta, .rotary_dim = config.rope.rotary_dim};
    } else if (value.is_object()) {
      PM_TRY(read_scaling(value.get_object(), config.context_max, config.rope));
    } else {
      return wrong(key, "must be an object or null");
    }
  }
  return {};
}

}  // namespace pagemill
