#include "sample/sampling_state.h"

#include <limits>
#include <map>

#include "base/rng.h"
#include "support/allocation_counter.h"

namespace pagemill {
namespace {

using Verdict = SamplingState::Verdict;

std::map<int32_t, int32_t> as_map(std::span<const HistoryEntry> history) {
  std::map<int32_t, int32_t> map;
  for (const auto& [token, count] : history) EXPECT_TRUE(map.emplace(token, count).second) << "token " << token << " twice";
  return map;
}

std::map<int32_t, float> as_map(std::span<const BiasEntry> bias) {
  std::map<int32_t, float> map;
  for (const auto& [token, value] : bias) map[token] += value;
  return map;
}

constexpr float kForbidden = -std::numeric_limits<float>::infinity();

TEST(SamplingState, CountsWhatPenaltiesApplyTo) {
  const std::vector<int32_t> prompt = {5, 6, 5, 7};
  SamplingState repetition({.repetition_penalty = 1.1f}, prompt, {}, 100, 1);
  for (const int32_t token : {6, 9, 9}) EXPECT_EQ(repetition.accept(token), Verdict::go_on);
  EXPECT_EQ(as_map(repetition.history()), (std::map<int32_t, int32_t>{{5, 0}, {6, 1}, {7, 0}, {9, 2}}));

  SamplingState presence({.presence_penalty = 0.5f}, prompt, {}, 100, 1);  // of the output alone
  for (const int32_t token : {6, 9, 9}) presence.accept(token);
  EXPECT_EQ(as_map(presence.history()), (std::map<int32_t, int32_t>{{6, 1}, {9, 2}}));

  SamplingState none({}, prompt, {}, 100, 1);
  none.accept(6);
  EXPECT_TRUE(none.history().empty());
  EXPECT_FALSE(none.needs_last_token());
  EXPECT_TRUE(presence.needs_last_token());
}

TEST(SamplingState, CountsLongAnswersLikeAMap) {
  SplitMix64 rng(3);
  SamplingState state({.frequency_penalty = 0.5f}, {}, {}, 1'000'000, 1);
  std::map<int32_t, int32_t> expected;
  for (int i = 0; i < 20'000; ++i) {
    const auto token = static_cast<int32_t>(rng.below(9'000) * 64);  // equal low bits
    state.accept(token);
    ++expected[token];
  }
  EXPECT_EQ(as_map(state.history()), expected);
}

TEST(SamplingState, ForbidsStopTokensBeforeMinTokens) {
  SamplingState state({.min_tokens = 2, .stop_token_ids = {8}, .logit_bias = {{3, 1.5f}}}, {}, std::vector<int32_t>{2, 8}, 100, 1);
  EXPECT_EQ(as_map(state.bias()), (std::map<int32_t, float>{{2, kForbidden}, {3, 1.5f}, {8, kForbidden}}));
  EXPECT_EQ(as_map(state.bias(2)), (std::map<int32_t, float>{{3, 1.5f}}));
  state.accept(10);
  EXPECT_EQ(state.bias().size(), 3u);
  EXPECT_EQ(as_map(state.bias(1)), (std::map<int32_t, float>{{3, 1.5f}}));
  state.accept(10);
  EXPECT_EQ(as_map(state.bias()), (std::map<int32_t, float>{{3, 1.5f}}));
}

TEST(SamplingState, ForbidsTheTokenThatCompletesABadWord) {
  SamplingState state({.bad_words = {{4}, {1, 2}, {1, 1, 3}, {1, 2, 3, 5}}}, std::vector<int32_t>{1, 2, 3}, {}, 100, 1);
  EXPECT_TRUE(state.needs_last_token());
  EXPECT_EQ(as_map(state.bias()), (std::map<int32_t, float>{{4, kForbidden}})) << "the prompt does not count";
  state.accept(1);
  EXPECT_EQ(as_map(state.bias()), (std::map<int32_t, float>{{2, kForbidden}, {4, kForbidden}}));
  state.accept(1);
  EXPECT_EQ(as_map(state.bias()), (std::map<int32_t, float>{{2, kForbidden}, {3, kForbidden}, {4, kForbidden}}));
  state.accept(7);
  EXPECT_EQ(as_map(state.bias()), (std::map<int32_t, float>{{4, kForbidden}}));
  for (const int32_t token : {9, 9, 1, 2, 3}) state.accept(token);
  EXPECT_EQ(as_map(state.bias()), (std::map<int32_t, float>{{4, kForbidden}, {5, kForbidden}}));
}

TEST(SamplingState, EndsAtStopTokensAndAtItsLength) {
  const std::vector<int32_t> eos = {2};
  SamplingState plain({.stop_token_ids = {8}}, {}, eos, 3, 1);
  EXPECT_EQ(plain.accept(5), Verdict::go_on);
  EXPECT_EQ(plain.accept(6), Verdict::go_on);
  EXPECT_EQ(plain.accept(7), Verdict::length);
  EXPECT_EQ(SamplingState({.stop_token_ids = {8}}, {}, eos, 3, 1).accept(2), Verdict::stop_token);
  EXPECT_EQ(SamplingState({.stop_token_ids = {8}}, {}, eos, 1, 1).accept(8), Verdict::stop_token) << "rather than length";
  SamplingState ignoring({.ignore_eos = true, .stop_token_ids = {8}}, {}, eos, 3, 1);
  EXPECT_EQ(ignoring.accept(2), Verdict::go_on);
  EXPECT_EQ(ignoring.accept(8), Verdict::stop_token);
  EXPECT_EQ(ignoring.output_tokens(), 2);
}

TEST(SamplingState, RowsCarryTheParametersAndTheirPosition) {
  const SamplingParams params{.temperature = 0.5f, .top_k = 4, .top_p = 0.9f, .min_p = 0.1f, .typical_p = 0.8f, .repetition_penalty = 1.2f,
                              .presence_penalty = 0.3f, .frequency_penalty = 0.4f, .logprobs = 5};
  SamplingState state(params, std::vector<int32_t>{1, 2, 3}, {}, 100, 42);
  EXPECT_EQ(state.row().position, 3u);
  EXPECT_EQ(state.row(1).position, 4u);
  state.accept(9);
  const SamplingRow row = state.row();
  EXPECT_EQ(row.position, 4u);
  EXPECT_EQ(row.seed, 42u);
  EXPECT_EQ(row.temperature, 0.5f);
  EXPECT_EQ(row.top_k, 4);
  EXPECT_EQ(row.top_p, 0.9f);
  EXPECT_EQ(row.min_p, 0.1f);
  EXPECT_EQ(row.typical_p, 0.8f);
  EXPECT_EQ(row.repetition_penalty, 1.2f);
  EXPECT_EQ(row.presence_penalty, 0.3f);
  EXPECT_EQ(row.frequency_penalty, 0.4f);
  EXPECT_EQ(row.logprobs, 5);
}

TEST(ChoiceSeed, DiffersByChoice) {
  EXPECT_EQ(choice_seed({.seed = 7}, 0, 99), 7u);
  EXPECT_EQ(choice_seed({.seed = 7}, 2, 99), 9u);
  EXPECT_EQ(choice_seed({}, 1, 99), 100u);
}

TEST(SamplingState, StepsWithoutAllocating) {
  SamplingState state({.repetition_penalty = 1.1f, .min_tokens = 10, .logit_bias = {{3, 1.0f}}, .bad_words = {{1, 2, 3}, {4}}},
                      std::vector<int32_t>(100, 1), std::vector<int32_t>{2}, 100'000, 1);
  const uint64_t before = allocated_bytes_ever();
  size_t entries = 0;
  for (int32_t i = 0; i < 4'096; ++i) {
    state.accept(i + 10);
    entries += state.bias().size() + state.history().size() + state.row().position;
  }
  EXPECT_EQ(allocated_bytes_ever(), before);
  for (int32_t i = 0; i < 4'096; ++i) state.accept(i + 10'000);
  EXPECT_GT(allocated_bytes_ever(), before) << "the counter counts";
  EXPECT_GT(entries, 0u);
}

}  // namespace
}  // namespace pagemill
