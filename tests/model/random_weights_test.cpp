// Models with random weights are fit to test with: finite, spread logits that depend on every token of the context.
#include <cmath>

#include <gtest/gtest.h>

#include "backend/cpu/reference_backend.h"
#include "base/rng.h"
#include "format/random_model.h"
#include "support/model_bench.h"

namespace pagemill {
namespace {

constexpr int kTokens = 24;

std::vector<int32_t> prompt(int32_t vocab) {
  SplitMix64 random(5);
  std::vector<int32_t> tokens(kTokens);
  for (int32_t& token : tokens) token = static_cast<int32_t>(random.below(static_cast<uint64_t>(vocab)));
  return tokens;
}

std::vector<float> last_logits(ModelBench& bench, const std::vector<int32_t>& tokens) {
  const std::vector<float> all = bench.logits(tokens, kTokens);
  return {all.end() - bench.config().vocab, all.end()};
}

double deviation(std::span<const float> values) {
  double sum = 0, squares = 0;
  for (const float value : values) {
    sum += value;
    squares += double{value} * value;
  }
  const auto n = static_cast<double>(values.size());
  return std::sqrt(squares / n - (sum / n) * (sum / n));
}

class RandomWeights : public testing::TestWithParam<std::tuple<const char*, const char*>> {};

TEST_P(RandomWeights, GiveLogitsThatDependOnTheWholeContext) {
  const auto [shape, types] = GetParam();
  RandomModelSpec spec = *random_model_spec(shape);
  spec.types = *type_mix_from_name(types);
  const auto source = open_random_model(spec);
  ReferenceBackend backend(1);
  const auto bench = ModelBench::make(*source, backend, {.rows_max = kTokens, .logit_rows_max = kTokens});
  ASSERT_TRUE(bench) << bench.error().message;

  const std::vector<int32_t> tokens = prompt(spec.vocab);
  const std::vector<float> logits = last_logits(**bench, tokens);
  for (const float logit : logits) ASSERT_TRUE(std::isfinite(logit));
  const double spread = deviation(logits);
  EXPECT_GT(spread, 1.5);
  EXPECT_LT(spread, 8);

  // Another token somewhere in the context. Attention that were even over 24 tokens would hardly notice.
  int noticed = 0;
  for (size_t at = 0; at + 1 < tokens.size(); ++at) {
    std::vector<int32_t> other = tokens;
    other[at] = (other[at] + 1) % spec.vocab;
    std::vector<float> changed = last_logits(**bench, other);
    for (size_t i = 0; i < changed.size(); ++i) changed[i] -= logits[i];
    EXPECT_GT(deviation(changed), 1e-3 * spread) << "position " << at;
    noticed += deviation(changed) > 0.1 * spread;
  }
  EXPECT_GE(noticed, kTokens / 3);
}

INSTANTIATE_TEST_SUITE_P(TinyModels, RandomWeights,
                         testing::Combine(testing::Values("tiny-llama", "tiny-qwen2"), testing::Values("f32", "q8_0", "q4_k_m", "q2_k")));

}  // namespace
}  // namespace pagemill
