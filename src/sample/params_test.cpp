#include "sample/params.h"

#include <limits>

#include "base/limits.h"

namespace pagemill {
namespace {

constexpr int32_t kVocab = 1'000;

/// The field that an error names; "" where there is none.
std::string fault(const SamplingParams& params) {
  const auto valid = validate_sampling(params, kVocab);
  if (valid) return "";
  EXPECT_EQ(valid.error().code, ErrorCode::invalid_argument);
  EXPECT_NE(valid.error().message.find("'" + valid.error().field + "'"), std::string::npos) << valid.error().message;
  return valid.error().field;
}

TEST(ValidateSampling, TakesTheDefaultsAndTheEdges) {
  EXPECT_EQ(fault({}), "");
  EXPECT_EQ(fault({.temperature = 2, .top_k = -1, .top_p = 1e-9f, .min_p = 1, .typical_p = 1e-9f, .repetition_penalty = 2,
                   .presence_penalty = -2, .frequency_penalty = 2, .n = limits::kChoices, .max_tokens = 1, .min_tokens = 1,
                   .stop_token_ids = {0, kVocab - 1}, .logit_bias = {{0, -100}}, .bad_words = {{1, 2}}, .logprobs = limits::kTopLogprobs,
                   .prompt_logprobs = 0}),
            "");
}

TEST(ValidateSampling, NamesTheFieldOfEachHostileNumber) {
  constexpr float kNan = std::numeric_limits<float>::quiet_NaN(), kInfinity = std::numeric_limits<float>::infinity();
  using Float = float SamplingParams::*;
  struct Range { const char* name; Float field; float below, above; };
  const std::vector<Range> ranges = {
      {"temperature", &SamplingParams::temperature, -0.001f, 2.001f}, {"top_p", &SamplingParams::top_p, 0, 1.001f},
      {"min_p", &SamplingParams::min_p, -0.001f, 1.001f},             {"typical_p", &SamplingParams::typical_p, 0, 1.001f},
      {"repetition_penalty", &SamplingParams::repetition_penalty, 0, 2.001f},
      {"presence_penalty", &SamplingParams::presence_penalty, -2.001f, 2.001f},
      {"frequency_penalty", &SamplingParams::frequency_penalty, -2.001f, 2.001f}};
  for (const Range& range : ranges) {
    for (const float value : {range.below, range.above, kNan, kInfinity, -kInfinity, -1e30f, 1e30f}) {
      SamplingParams params;
      params.*range.field = value;
      EXPECT_EQ(fault(params), range.name) << value;
    }
  }
  constexpr int32_t kMin = std::numeric_limits<int32_t>::min(), kMax = std::numeric_limits<int32_t>::max();
  EXPECT_EQ(fault({.top_k = -2}), "top_k");
  EXPECT_EQ(fault({.top_k = kMin}), "top_k");
  EXPECT_EQ(fault({.top_k = kMax}), "");
  for (const int32_t n : {0, -1, kMin, kMax, limits::kChoices + 1}) EXPECT_EQ(fault({.n = n}), "n");
  for (const int32_t tokens : {0, -1, kMin}) EXPECT_EQ(fault({.max_tokens = tokens}), "max_tokens");
  EXPECT_EQ(fault({.min_tokens = -1}), "min_tokens");
  EXPECT_EQ(fault({.max_tokens = 3, .min_tokens = 4}), "min_tokens");
  for (const int32_t count : {-2, kMin, kMax, limits::kTopLogprobs + 1}) {
    EXPECT_EQ(fault({.logprobs = count}), "logprobs");
    EXPECT_EQ(fault({.prompt_logprobs = count}), "prompt_logprobs");
  }
  for (const int32_t token : {-1, kVocab, kMin, kMax}) {
    EXPECT_EQ(fault({.stop_token_ids = {token}}), "stop_token_ids");
    EXPECT_EQ(fault({.logit_bias = {{token, 1.0f}}}), "logit_bias");
    EXPECT_EQ(fault({.bad_words = {{1, token}}}), "bad_words");
  }
  EXPECT_EQ(fault({.logit_bias = {{1, kNan}}}), "logit_bias");
  EXPECT_EQ(fault({.bad_words = {{}}}), "bad_words");
}

TEST(ValidateSampling, BoundsEveryList) {
  EXPECT_EQ(fault({.stop_token_ids = std::vector<int32_t>(limits::kStopTokenIds + 1)}), "stop_token_ids");
  EXPECT_EQ(fault({.logit_bias = std::vector<std::pair<int32_t, float>>(limits::kLogitBiasEntries + 1)}), "logit_bias");
  EXPECT_EQ(fault({.bad_words = std::vector<std::vector<int32_t>>(limits::kBadWords + 1, {1})}), "bad_words");
  EXPECT_EQ(fault({.bad_words = {std::vector<int32_t>(limits::kBadWordTokens + 1)}}), "bad_words");
}

TEST(ValidateSampling, Normalises) {
  EXPECT_EQ(validate_sampling({.top_k = -1}, kVocab)->top_k, 0);
  EXPECT_FLOAT_EQ(validate_sampling({.temperature = 0.001f}, kVocab)->temperature, 0.01f);
  const auto biased = *validate_sampling({.logit_bias = {{1, 1e9f}, {2, -std::numeric_limits<float>::infinity()}}}, kVocab);
  EXPECT_EQ(biased.logit_bias[0].second, 100);
  EXPECT_EQ(biased.logit_bias[1].second, -100);
  const auto greedy = *validate_sampling({.temperature = 9e-6f, .top_k = 5, .top_p = 0.5f, .min_p = 0.1f, .typical_p = 0.5f}, kVocab);
  EXPECT_EQ(greedy.temperature, 0);
  EXPECT_EQ(greedy.top_k, 0);
  EXPECT_EQ(greedy.top_p, 1);
  EXPECT_EQ(greedy.min_p, 0);
  EXPECT_EQ(greedy.typical_p, 1);
}

TEST(ValidateSampling, GreedyHasOneChoice) {
  EXPECT_EQ(fault({.temperature = 0, .n = 2}), "n");
  EXPECT_EQ(fault({.temperature = 0.001f, .n = 2}), "");
}

TEST(SamplingDefaults, ComeFromAGenerationConfig) {
  const auto qwen = read_sampling_defaults(parse_json(R"({"temperature": 0.7, "top_p": 0.8, "top_k": 20, "repetition_penalty": 1.05,
      "eos_token_id": [151645, 151643], "do_sample": true, "max_new_tokens": 2048, "min_p": null})")->as_object());
  ASSERT_TRUE(qwen) << qwen.error().message;
  const SamplingParams params = default_sampling(*qwen);
  EXPECT_FLOAT_EQ(params.temperature, 0.7f);
  EXPECT_FLOAT_EQ(params.top_p, 0.8f);
  EXPECT_EQ(params.top_k, 20);
  EXPECT_FLOAT_EQ(params.repetition_penalty, 1.05f);
  EXPECT_EQ(qwen->max_new_tokens, 2048);
  EXPECT_FALSE(params.max_tokens);
  EXPECT_EQ(params.min_p, 0);
  const SamplingDefaults merged = merge(*qwen, {.temperature = 0.0f});
  EXPECT_EQ(merged.temperature, 0.0f);
  EXPECT_EQ(merged.top_k, 20);
}

TEST(SamplingDefaults, RefuseWhatNoRequestMaySay) {
  const auto field = [](const char* text) { return read_sampling_defaults(parse_json(text)->as_object()).error().field; };
  EXPECT_EQ(field(R"({"temperature": "hot"})"), "temperature");
  EXPECT_EQ(field(R"({"temperature": 3})"), "temperature");
  EXPECT_EQ(field(R"({"top_k": 1.5})"), "top_k");
  EXPECT_EQ(field(R"({"top_k": 1e300})"), "top_k");
  EXPECT_EQ(field(R"({"top_p": -1e300})"), "top_p");
  EXPECT_EQ(field(R"({"max_new_tokens": 0})"), "max_new_tokens");
  EXPECT_EQ(field(R"({"max_new_tokens": [1]})"), "max_new_tokens");
}

}  // namespace
}  // namespace pagemill
