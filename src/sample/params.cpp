#include "sample/params.h"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "backend/sampling.h"
#include "base/check.h"
#include "base/limits.h"

namespace pagemill {
namespace {

constexpr float kTemperatureMin = 0.01f;  // smaller ones, as in vLLM, are raised to it: they only lose precision

tl::unexpected<Error> invalid(std::string_view field, std::string_view expected, const std::string& got) {
  return fail(ErrorCode::invalid_argument, fmt::format("'{}' must be {}, got {}.", field, expected, got), std::string(field));
}

/// `low` itself is excluded where `open`. A NaN is outside every range.
Result<void> check_range(std::string_view field, float value, float low, float high, bool open = false) {
  if ((open ? value > low : value >= low) && value <= high) return {};
  return invalid(field, fmt::format("in {}{}, {}]", open ? '(' : '[', low, high), fmt::format("{}", value));
}

Result<void> check_count(std::string_view field, int64_t value, int64_t low, int64_t high) {
  if (value >= low && value <= high) return {};
  return invalid(field, fmt::format("between {} and {}", low, high), fmt::format("{}", value));
}

Result<void> check_token(std::string_view field, int32_t token, int32_t vocab) {
  if (token >= 0 && token < vocab) return {};
  return fail(ErrorCode::invalid_argument, fmt::format("'{}' has token id {}, which is outside the vocabulary of {} tokens.", field, token, vocab),
              std::string(field));
}

Result<void> check_length(std::string_view field, size_t length, size_t max) {
  if (length <= max) return {};
  return fail(ErrorCode::invalid_argument, fmt::format("'{}' has {} entries, {} at most.", field, length, max), std::string(field));
}

Result<void> check_filters(const SamplingParams& params) {
  PM_TRY(check_range("temperature", params.temperature, 0, 2));
  PM_TRY(check_range("top_p", params.top_p, 0, 1, true));
  if (params.top_k < -1) return invalid("top_k", "at least 1, or 0 or -1 for all", fmt::format("{}", params.top_k));
  PM_TRY(check_range("min_p", params.min_p, 0, 1));
  PM_TRY(check_range("typical_p", params.typical_p, 0, 1, true));
  PM_TRY(check_range("repetition_penalty", params.repetition_penalty, 0, 2, true));
  PM_TRY(check_range("presence_penalty", params.presence_penalty, -2, 2));
  PM_TRY(check_range("frequency_penalty", params.frequency_penalty, -2, 2));
  return {};
}

Result<void> check_lengths(const SamplingParams& params) {
  PM_TRY(check_count("n", params.n, 1, limits::kChoices));
  if (params.max_tokens && *params.max_tokens < 1) return invalid("max_tokens", "at least 1", fmt::format("{}", *params.max_tokens));
  if (params.min_tokens < 0) return invalid("min_tokens", "at least 0", fmt::format("{}", params.min_tokens));
  if (params.max_tokens && params.min_tokens > *params.max_tokens) {
    return invalid("min_tokens", fmt::format("at most max_tokens ({})", *params.max_tokens), fmt::format("{}", params.min_tokens));
  }
  PM_TRY(check_count("logprobs", params.logprobs, -1, limits::kTopLogprobs));
  PM_TRY(check_count("prompt_logprobs", params.prompt_logprobs, -1, limits::kTopLogprobs));
  return {};
}

Result<void> check_tokens(const SamplingParams& params, int32_t vocab) {
  PM_TRY(check_length("stop_token_ids", params.stop_token_ids.size(), limits::kStopTokenIds));
  for (const int32_t token : params.stop_token_ids) PM_TRY(check_token("stop_token_ids", token, vocab));
  PM_TRY(check_length("logit_bias", params.logit_bias.size(), limits::kLogitBiasEntries));
  for (const auto& [token, bias] : params.logit_bias) {
    PM_TRY(check_token("logit_bias", token, vocab));
    if (std::isnan(bias)) return invalid("logit_bias", "made of numbers", "NaN");
  }
  PM_TRY(check_length("bad_words", params.bad_words.size(), limits::kBadWords));
  for (const auto& word : params.bad_words) {
    if (word.empty()) return invalid("bad_words", "made of words of at least one token", "an empty one");
    if (word.size() > limits::kBadWordTokens) {
      return invalid("bad_words", fmt::format("made of words of at most {} tokens", limits::kBadWordTokens), fmt::format("one of {}", word.size()));
    }
    for (const int32_t token : word) PM_TRY(check_token("bad_words", token, vocab));
  }
  return {};
}

/// Greedy ignores the filters; choices would all be the same.
Result<void> normalise_temperature(SamplingParams& params) {
  if (params.temperature >= kGreedyTemperature) {
    params.temperature = std::max(params.temperature, kTemperatureMin);
    return {};
  }
  if (params.n > 1) {
    return fail(ErrorCode::invalid_argument, fmt::format("'n' must be 1 with temperature 0 (every choice would be the same), got {}.", params.n), "n");
  }
  params.temperature = 0;
  params.top_k = 0;
  params.top_p = params.typical_p = 1;
  params.min_p = 0;
  return {};
}

/// A number of the object as a float; nothing if the key is absent or null.
Result<std::optional<float>> find_number(const json::object& object, std::string_view key) {
  const json::value* value = object.if_contains(key);
  if (value == nullptr || value->is_null()) return std::nullopt;
  if (!value->is_number()) return invalid(key, "a number", std::string(json::to_string(value->kind())));
  return value->to_number<float>();
}

Result<std::optional<int32_t>> find_integer(const json::object& object, std::string_view key) {
  const json::value* value = object.if_contains(key);
  if (value == nullptr || value->is_null()) return std::nullopt;
  boost::system::error_code inexact;
  const auto number = value->to_number<int32_t>(inexact);
  if (inexact) return invalid(key, "an integer of 32 bits", json::serialize(*value));
  return number;
}

}  // namespace

Result<SamplingParams> validate_sampling(SamplingParams params, int32_t vocab) {
  PM_CHECK(vocab > 0, "vocabulary of {}", vocab);
  PM_TRY(check_filters(params));
  PM_TRY(check_lengths(params));
  PM_TRY(check_tokens(params, vocab));
  PM_TRY(normalise_temperature(params));
  params.top_k = std::max(params.top_k, 0);
  for (auto& [token, bias] : params.logit_bias) bias = std::clamp(bias, -100.0f, 100.0f);
  return params;
}

Result<SamplingDefaults> read_sampling_defaults(const json::object& generation_config) {
  SamplingDefaults defaults;
  PM_ASSIGN(defaults.temperature, find_number(generation_config, "temperature"));
  PM_ASSIGN(defaults.top_p, find_number(generation_config, "top_p"));
  PM_ASSIGN(defaults.min_p, find_number(generation_config, "min_p"));
  PM_ASSIGN(defaults.repetition_penalty, find_number(generation_config, "repetition_penalty"));
  PM_ASSIGN(defaults.top_k, find_integer(generation_config, "top_k"));
  PM_ASSIGN(defaults.max_new_tokens, find_integer(generation_config, "max_new_tokens"));
  PM_TRY(check_filters(default_sampling(defaults)));
  if (defaults.max_new_tokens && *defaults.max_new_tokens < 1) {
    return invalid("max_new_tokens", "at least 1", fmt::format("{}", *defaults.max_new_tokens));
  }
  return defaults;
}

SamplingDefaults merge(SamplingDefaults base, const SamplingDefaults& override) {
  const auto replace = [](auto& value, const auto& by) { if (by) value = by; };
  replace(base.temperature, override.temperature);
  replace(base.top_p, override.top_p);
  replace(base.min_p, override.min_p);
  replace(base.repetition_penalty, override.repetition_penalty);
  replace(base.top_k, override.top_k);
  replace(base.max_new_tokens, override.max_new_tokens);
  return base;
}

SamplingParams default_sampling(const SamplingDefaults& defaults) {
  SamplingParams params;
  params.temperature = defaults.temperature.value_or(params.temperature);
  params.top_p = defaults.top_p.value_or(params.top_p);
  params.min_p = defaults.min_p.value_or(params.min_p);
  params.repetition_penalty = defaults.repetition_penalty.value_or(params.repetition_penalty);
  params.top_k = defaults.top_k.value_or(params.top_k);
  return params;
}

}  // namespace pagemill
