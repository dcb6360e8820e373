#include <cmath>
#include <numeric>

#include "base/check.h"
#include "engine/invariance_test.h"
#include "format/random_model.h"
#include "support/model_bench.h"
#include "support/tiny_model.h"

namespace pagemill {
namespace {

class TinyModelEngineTest : public testing::TestWithParam<std::tuple<std::string, BackendUnderTest>> {
 protected:
  TinyModelEngineTest() : tiny_(open_tiny_model(std::get<0>(GetParam()))) {}

  TinyModel tiny_;
  BackendUnderTest under_test_ = std::get<1>(GetParam());
};

TEST_P(TinyModelEngineTest, EveryWayOfRunningIsBitwiseTheSame) { expect_invariant(*tiny_.source, under_test_, {}, tiny_.overrides); }

std::vector<int32_t> some_prompt(int32_t length, int32_t vocab) {
  std::vector<int32_t> tokens;
  for (int32_t i = 0; i < length; ++i) tokens.push_back((7 + 31 * i) % vocab);
  return tokens;
}

/// The mean of the hidden states that the model itself shows, L2-normalised.
std::vector<float> embedding_of(ModelBench& bench, Backend& backend, const std::vector<int32_t>& prompt) {
  bench.logits(prompt, static_cast<int32_t>(prompt.size()));
  const Matrix hidden = bench.model().hidden_states();
  const auto cols = static_cast<size_t>(hidden.cols);
  std::vector<float> values(prompt.size() * cols);
  PM_CHECK(backend.read(hidden, values));
  std::vector<double> sum(cols);
  for (size_t i = 0; i < values.size(); ++i) sum[i % cols] += values[i];
  const double norm = std::sqrt(std::inner_product(sum.begin(), sum.end(), sum.begin(), 0.0));
  std::vector<float> out;
  for (const double value : sum) out.push_back(static_cast<float>(value / norm));
  return out;
}

TEST_P(TinyModelEngineTest, EmbeddingsAndPromptLogprobsAreTheModelsInChunksOfAnySize) {
  constexpr int32_t kLength = 45;
  const auto backend = under_test_.make(1);
  auto bench = ModelBench::make(*tiny_.source, *backend, {.kv_dtype = under_test_.kv_dtype, .overrides = tiny_.overrides});
  ASSERT_TRUE(bench) << bench.error().message;
  const auto vocab = static_cast<size_t>((*bench)->config().vocab);
  const std::vector<int32_t> prompt = some_prompt(kLength, static_cast<int32_t>(vocab));
  const std::vector<float> embedding = embedding_of(**bench, *backend, prompt);
  const std::vector<float> logits = (*bench)->logits(prompt, kLength);

  EngineRequest pooled, scored;
  pooled.prompt = scored.prompt = prompt;
  pooled.pooled_embedding = true;
  pooled.sampling.seed = 1;
  scored.sampling.max_tokens = 0;
  scored.sampling.prompt_logprobs = 2;
  scored.sampling.seed = 2;
  for (const int32_t chunk : {64, 45, 16, 7, 2}) {
    ModelRig rig(*tiny_.source, *backend, {.max_num_seqs = 2, .max_num_batched_tokens = chunk, .kv_dtype = under_test_.kv_dtype}, tiny_.overrides);
    const RigRun run = rig.run({pooled, scored});
    ASSERT_EQ(run.embeddings.at(1).size(), embedding.size());
    for (size_t i = 0; i < embedding.size(); ++i) ASSERT_NEAR(run.embeddings.at(1)[i], embedding[i], 1e-6) << i << " in chunks of " << chunk;
    const std::vector<TokenLogprob>& scores = run.scores.at(2);
    ASSERT_EQ(scores.size(), prompt.size() - 1);
    for (size_t i = 0; i < scores.size(); ++i) {
      const std::span row = std::span(logits).subspan(i * vocab, vocab);
      const auto log_probability = [&](int32_t token) {
        double total = 0;
        for (const float logit : row) total += std::exp(static_cast<double>(logit));
        return static_cast<double>(row[static_cast<size_t>(token)]) - std::log(total);
      };
      ASSERT_EQ(scores[i].token, prompt[i + 1]);
      ASSERT_NEAR(scores[i].logprob, log_probability(prompt[i + 1]), 1e-4) << i << " in chunks of " << chunk;
      ASSERT_EQ(scores[i].top.size(), 2u);
      const auto best = static_cast<int32_t>(std::max_element(row.begin(), row.end()) - row.begin());
      ASSERT_EQ(scores[i].top[0].token, best);
      ASSERT_NEAR(scores[i].top[0].logprob, log_probability(best), 1e-4);
    }
  }
}

class QuantizedModelEngineTest : public testing::TestWithParam<std::tuple<std::string, BackendUnderTest>> {};

TEST_P(QuantizedModelEngineTest, EveryWayOfRunningIsBitwiseTheSame) {
  const auto& [types, under_test] = GetParam();
  RandomModelSpec spec = *random_model_spec("tiny-llama");
  spec.types = *type_mix_from_name(types);
  expect_invariant(*open_random_model(spec), under_test, {.prompt_min = 20, .prompt_max = 40, .output = 24, .chunked_prompt = 30});
}

INSTANTIATE_TEST_SUITE_P(Types, QuantizedModelEngineTest, testing::Combine(testing::Values("q4_k_m", "q8_0"), testing::ValuesIn(backends_with_wide_heads())),
                         [](const auto& each) { return std::get<0>(each.param) + "_" + std::get<1>(each.param).name; });

INSTANTIATE_TEST_SUITE_P(Models, TinyModelEngineTest, testing::Combine(testing::ValuesIn(tiny_model_names()), testing::ValuesIn(backends_under_test())),
                         [](const auto& each) {
                           std::string name = std::get<0>(each.param) + "_" + std::get<1>(each.param).name;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

}  // namespace
}  // namespace pagemill
