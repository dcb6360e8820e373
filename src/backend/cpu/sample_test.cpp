#include "backend/cpu/sample.h"

#include <cmath>
#include <limits>
#include <numeric>

#include "backend/sampling.h"
#include "base/rng.h"
#include "support/allocation_counter.h"

namespace pagemill {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

struct Case {
  std::vector<float> logits;
  SamplingRow row;
  std::vector<HistoryEntry> history;
  std::vector<BiasEntry> bias;
  std::vector<uint32_t> mask;
};

int32_t sample(const Case& c, SampleScratch& scratch) {
  return sample_row(c.logits, c.row, c.history, c.bias, c.mask, scratch).token;
}
int32_t sample(const Case& c) {
  SampleScratch scratch;
  return sample(c, scratch);
}

std::vector<float> random_logits(SplitMix64& rng, size_t vocab, double spread) {
  std::vector<float> logits(vocab);
  for (float& logit : logits) logit = static_cast<float>(rng.normal() * spread);
  return logits;
}

// What the parameters mean, in doubles and with full sorts: the probability of every token.
std::vector<double> oracle(const Case& c) {
  std::vector<double> p(c.logits.begin(), c.logits.end());
  for (const auto& [token, bias] : c.bias) p[token] += bias;
  for (const auto& [token, output] : c.history) {
    p[token] = p[token] > 0 ? p[token] / c.row.repetition_penalty : p[token] * c.row.repetition_penalty;
    p[token] -= output * c.row.frequency_penalty + (output > 0 ? c.row.presence_penalty : 0);
  }
  for (size_t i = 0; i < p.size() && !c.mask.empty(); ++i) p[i] = c.mask[i / 32] >> i % 32 & 1 ? p[i] : -kInfinity;
  const double max = *std::max_element(p.begin(), p.end());
  for (double& x : p) x = std::exp((x - max) / c.row.temperature);
  const auto normalise = [&] {
    const double sum = std::accumulate(p.begin(), p.end(), 0.0);
    for (double& x : p) x /= sum;
  };
  const auto keep = [&](auto cost, auto enough) {  // tokens by ascending cost until enough(count, mass)
    normalise();
    std::vector<size_t> order(p.size());
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return cost(a) < cost(b); });
    std::vector<double> kept(p.size(), 0.0);
    double mass = 0;
    for (size_t i = 0; i < order.size() && !enough(i, mass); ++i) mass += kept[order[i]] = p[order[i]];
    p = kept;
  };
  const auto likely = [&](size_t i) { return -p[i]; };
  normalise();
  double entropy = 0;
  for (const double x : p) entropy -= x > 0 ? x * std::log(x) : 0;
  const auto typical = [&](size_t i) { return p[i] > 0 ? std::abs(-std::log(p[i]) - entropy) : kInfinity; };
  if (c.row.typical_p < 1) keep(typical, [&](size_t, double mass) { return mass >= c.row.typical_p; });
  const double best = *std::max_element(p.begin(), p.end());
  for (double& x : p) x = x >= c.row.min_p * best * (1 - 1e-6) ? x : 0;
  if (c.row.top_k > 0) keep(likely, [&](size_t count, double) { return count >= static_cast<size_t>(c.row.top_k); });
  if (c.row.top_p < 1) keep(likely, [&](size_t count, double mass) { return count > 0 && mass >= c.row.top_p; });
  normalise();
  return p;
}

// Draws `draws` tokens (one per position) and compares their counts with the oracle's by a χ² test at about 1e-6.
void expect_distribution(Case c, int draws = 40'000) {
  const std::vector<double> p = oracle(c);
  std::vector<int> counts(p.size());
  SampleScratch scratch;
  for (int i = 0; i < draws; ++i) {
    c.row.position = static_cast<uint64_t>(i);
    const int32_t token = sample(c, scratch);
    ASSERT_GE(token, 0);
    ++counts[static_cast<size_t>(token)];
  }
  double chi2 = 0, rest_expected = 0, rest_count = 0;
  int cells = 0;
  const auto add = [&](double expected, double count) {
    chi2 += (count - expected) * (count - expected) / expected;
    ++cells;
  };
  for (size_t i = 0; i < p.size(); ++i) {
    EXPECT_TRUE(p[i] > 0 || counts[i] == 0) << "token " << i << " is excluded";
    if (p[i] * draws >= 5) add(p[i] * draws, counts[i]);
    else rest_expected += p[i] * draws, rest_count += counts[i];
  }
  if (rest_expected >= 1) add(rest_expected, rest_count);
  const double freedom = cells - 1;
  EXPECT_LE(chi2, freedom + 5 * std::sqrt(2 * freedom) + 15) << cells << " cells";
}

// backend/sampling.h taken literally, with full sorts and one pass per step: the token itself.
int32_t definition(const Case& c) {
  std::vector<float> x = c.logits;
  for (float& v : x) v = clean_logit(v);
  for (const auto& [token, bias] : c.bias) x[token] += bias;
  for (const auto& [token, output] : c.history) {
    x[token] = x[token] > 0 ? x[token] / c.row.repetition_penalty : x[token] * c.row.repetition_penalty;
    if (output > 0) x[token] -= c.row.frequency_penalty * static_cast<float>(output);
    if (output > 0) x[token] -= c.row.presence_penalty;
  }
  for (size_t i = 0; i < x.size(); ++i) x[i] = c.mask.empty() || (c.mask[i / 32] >> i % 32 & 1) ? clean_logit(x[i]) : -kInfinity;
  std::vector<int32_t> kept;
  for (size_t i = 0; i < x.size(); ++i) if (x[i] != -kInfinity) kept.push_back(static_cast<int32_t>(i));
  if (kept.empty()) return -1;
  const auto best = [&] { return *std::min_element(kept.begin(), kept.end(), [&](int a, int b) { return token_rank(x[a], a) < token_rank(x[b], b); }); };
  if (c.row.temperature < kGreedyTemperature) return best();
  float max = x[best()];
  const auto z = [&](int32_t i) { return (x[i] - max) * (1.0f / c.row.temperature); };
  const auto mass = [&] { uint64_t sum = 0; for (const int32_t i : kept) sum += sampling_weight(z(i)); return sum; };
  const auto keep = [&](auto cost, uint64_t target, bool by_count) {
    std::sort(kept.begin(), kept.end(), [&](int a, int b) { return std::pair(cost(a), a) < std::pair(cost(b), b); });
    uint64_t sum = 0;
    size_t n = 0;
    while (n < kept.size() && sum < target) sum += by_count ? 1 : sampling_weight(z(kept[n])), ++n;
    kept.resize(n);
    std::sort(kept.begin(), kept.end());
  };
  const auto likely = [&](int32_t i) { return token_rank(x[i], i); };
  if (c.row.typical_p < 1) {
    unsigned __int128 weighted = 0;
    for (const int32_t i : kept) weighted += static_cast<unsigned __int128>(sampling_weight(z(i))) * surprise_units(z(i));
    const auto mean = static_cast<int64_t>(weighted / mass());
    keep([&](int32_t i) { return std::abs(int64_t{surprise_units(z(i))} - mean); }, mass_target(c.row.typical_p, mass()), false);
    max = x[best()];
  }
  if (c.row.min_p > 0) std::erase_if(kept, [&](int32_t i) { return z(i) < min_p_threshold(c.row.min_p); });
  if (c.row.top_k > 0) keep(likely, static_cast<uint64_t>(c.row.top_k), true);
  if (c.row.top_p < 1) keep(likely, mass_target(c.row.top_p, mass()), false);
  uint64_t left = draw_point(sampling_bits(c.row.seed, c.row.position), mass());
  for (const int32_t i : kept) {
    if (left < sampling_weight(z(i))) return i;
    left -= sampling_weight(z(i));
  }
  return -2;
}

Case random_case(SplitMix64& rng) {
  Case c;
  const size_t vocab = 1 + rng.below(rng.below(4) ? 700 : 5'000);
  const auto maybe = [&](double share) { return rng.uniform() < share; };
  c.logits = random_logits(rng, vocab, std::array{0.0, 0.3, 3.0, 30.0}[rng.below(4)]);
  if (maybe(0.3)) for (float& v : c.logits) v = std::round(v);  // ties
  if (maybe(0.3)) {
    for (uint64_t i = rng.below(8); i > 0; --i) c.logits[rng.below(vocab)] = std::array{kInfinity, -kInfinity, kNan, 0.0f, -0.0f, 3e38f, -3e38f}[rng.below(7)];
  }
  const auto uniform = [&](double low, double high) { return static_cast<float>(low + (high - low) * rng.uniform()); };
  c.row.temperature = maybe(0.1) ? 0 : uniform(0.01, 2);
  if (maybe(0.4)) c.row.top_k = static_cast<int32_t>(1 + rng.below(maybe(0.5) ? 10 : vocab + 3));
  if (maybe(0.4)) c.row.top_p = maybe(0.2) ? 1e-9f : uniform(0.001, 1);
  if (maybe(0.4)) c.row.min_p = maybe(0.2) ? 1.0f : uniform(0, 0.3);
  if (maybe(0.2)) c.row.typical_p = uniform(0.01, 1);
  c.row.seed = rng();
  c.row.position = rng.below(1000);
  if (maybe(0.3)) {
    c.row.repetition_penalty = uniform(0.5, 2);
    c.row.presence_penalty = uniform(-2, 2);
    c.row.frequency_penalty = uniform(-2, 2);
    for (size_t token = 0; token < vocab; token += 1 + rng.below(20)) c.history.push_back({static_cast<int32_t>(token), static_cast<int32_t>(rng.below(4))});
  }
  if (maybe(0.3)) {
    for (uint64_t i = rng.below(30); i > 0; --i) c.bias.push_back({static_cast<int32_t>(rng.below(vocab)), maybe(0.3) ? -kInfinity : uniform(-100, 100)});
  }
  if (maybe(0.3)) {
    c.mask.resize((vocab + 31) / 32);
    for (uint32_t& word : c.mask) word = std::array<uint32_t, 4>{0, ~0u, static_cast<uint32_t>(rng()), 1}[rng.below(4)];
  }
  return c;
}

TEST(SamplingWeight, IsTheExponentialToSingleAccuracy) {
  EXPECT_EQ(sampling_weight(0), kWeightOne);
  EXPECT_EQ(sampling_weight(-kInfinity), 0u);
  EXPECT_EQ(sampling_weight(kNan), 0u);
  for (float z = 0; z > -35; z -= 0.00037f) {
    const double exact = std::exp(static_cast<double>(z)) * 0x1p40;
    ASSERT_NEAR(static_cast<double>(sampling_weight(z)), exact, exact * 4e-7 + 1) << z;
  }
}

TEST(TokenRank, OrdersByLogitThenId) {
  const std::vector<float> descending = {3e38f, 2, 1e-30f, 0, -1e-30f, -2, -3e38f, -kInfinity};
  for (size_t i = 0; i + 1 < descending.size(); ++i) EXPECT_LT(token_rank(descending[i], 9), token_rank(descending[i + 1], 1));
  EXPECT_LT(token_rank(1, 3), token_rank(1, 4));
  EXPECT_LT(token_rank(-0.0f, 3), token_rank(0.0f, 4));
  EXPECT_LT(token_rank(0.0f, 3), token_rank(-0.0f, 4));
}

TEST(SampleRow, PicksTheTokenOfTheDefinition) {
  SplitMix64 rng(11);
  SampleScratch scratch(5'000);
  for (int i = 0; i < 20'000; ++i) {
    const Case c = random_case(rng);
    ASSERT_EQ(sample(c, scratch), definition(c)) << "case " << i;
  }
}

TEST(SampleRow, GreedyTakesTheLowestIdOfTheHighest) {
  Case c{.logits = std::vector<float>(1000, 1.0f)};
  EXPECT_EQ(sample(c), 0);
  c.logits[700] = c.logits[300] = c.logits[999] = 2;
  EXPECT_EQ(sample(c), 300);
  c.row.top_k = 5, c.row.top_p = 0.1f, c.row.typical_p = 0.2f, c.row.min_p = 0.9f;  // mean nothing when greedy
  EXPECT_EQ(sample(c), 300);
  c.row.temperature = 1e-6f;
  EXPECT_EQ(sample(c), 300);
  c.row.temperature = kNan;
  EXPECT_EQ(sample(c), 300);
}

TEST(SampleRow, TopKOneIsGreedyWhateverTheSeed) {
  SplitMix64 rng(5);
  for (int i = 0; i < 200; ++i) {
    Case c{.logits = random_logits(rng, 600, 1), .row = {.temperature = 2, .top_k = 1, .seed = rng()}};
    for (float& v : c.logits) v = std::round(v);
    const int32_t token = sample(c);
    c.row.temperature = 0;
    EXPECT_EQ(token, sample(c));
  }
}

TEST(SampleRow, ExtremeLogits) {
  for (const float temperature : {0.0f, 1.0f}) {
    Case c{.logits = std::vector<float>(300, -kInfinity), .row = {.temperature = temperature}};
    EXPECT_EQ(sample(c), -1) << "nothing is possible";
    c.logits.assign(300, kNan);
    EXPECT_EQ(sample(c), -1);
    c.logits[123] = -3e38f;
    EXPECT_EQ(sample(c), 123) << "one finite";
    c.logits[200] = kInfinity;
    EXPECT_EQ(sample(c), 200);
    c.bias = {{200, -kInfinity}};
    EXPECT_EQ(sample(c), 123) << "forbidding wins over infinity";
    c.logits.assign(300, kInfinity);
    c.bias.clear();
    EXPECT_GE(sample(c), 0);
    c.logits.assign(300, -3.4e38f);
    EXPECT_GE(sample(c), 0);
  }
}

TEST(SampleRow, MaskAllowsOnlyItsBits) {
  Case c{.logits = std::vector<float>(70, 0.0f), .row = {.temperature = 1}, .mask = {0, 0, 0}};
  EXPECT_EQ(sample(c), -1);
  c.mask[2] = 1u << 5 | 1u << 31;  // 69, and a bit past the vocabulary
  EXPECT_EQ(sample(c), 69);
  c.logits[69] = -kInfinity;
  EXPECT_EQ(sample(c), -1);
}

TEST(SampleRow, DependsOnSeedAndPositionAlone) {
  SplitMix64 rng(8);
  SampleScratch dirty(2'000);
  for (int i = 0; i < 500; ++i) {
    const Case c = random_case(rng);
    const int32_t alone = sample(c);
    sample(random_case(rng), dirty);  // whatever ran before on the same scratch
    EXPECT_EQ(sample(c, dirty), alone);
  }
}

class Distribution : public testing::Test {
 protected:
  Case base(double spread = 2, size_t vocab = 60) {
    SplitMix64 rng(21);
    return {.logits = random_logits(rng, vocab, spread), .row = {.temperature = 1, .seed = 77}};
  }
};

TEST_F(Distribution, Plain) { expect_distribution(base()); }
TEST_F(Distribution, AcrossBlocks) { expect_distribution(base(3, 2'000)); }
TEST_F(Distribution, AllEqual) { expect_distribution({.logits = std::vector<float>(600, 5.0f), .row = {.temperature = 1, .seed = 3}}); }
TEST_F(Distribution, Temperature) {
  for (const float temperature : {0.01f, 0.3f, 0.7f, 1.5f, 2.0f}) {
    Case c = base();
    c.row.temperature = temperature;
    expect_distribution(c);
  }
}
TEST_F(Distribution, TopK) {
  for (const int top_k : {1, 2, 7, 59, 60, 1000}) {
    Case c = base();
    c.row.top_k = top_k;
    expect_distribution(c);
  }
}
TEST_F(Distribution, TopP) {
  for (const float top_p : {1e-6f, 0.2f, 0.5f, 0.9f, 0.999f}) {
    for (const double spread : {0.1, 2.0}) {
      Case c = base(spread);
      c.row.top_p = top_p;
      expect_distribution(c);
    }
  }
}
TEST_F(Distribution, MinP) {
  for (const float min_p : {1e-4f, 0.05f, 0.5f, 1.0f}) {
    Case c = base();
    c.row.min_p = min_p;
    expect_distribution(c);
  }
}
TEST_F(Distribution, TypicalP) {
  for (const float typical_p : {0.01f, 0.3f, 0.9f}) {
    Case c = base();
    c.row.typical_p = typical_p;
    expect_distribution(c);
  }
}
TEST_F(Distribution, LogitBias) {
  Case c = base();
  c.bias = {{3, 4.0f}, {5, -kInfinity}, {7, -1.5f}, {3, 1.0f}};
  expect_distribution(c);
}
TEST_F(Distribution, Penalties) {
  Case c = base();
  c.history = {{0, 0}, {1, 1}, {2, 3}, {9, 0}, {30, 7}, {31, 1}};
  for (const int which : {1, 2, 4, 7}) {
    c.row.repetition_penalty = which & 1 ? 1.3f : 1;
    c.row.presence_penalty = which & 2 ? 0.7f : 0;
    c.row.frequency_penalty = which & 4 ? -0.4f : 0;
    expect_distribution(c);
  }
}
TEST_F(Distribution, Combined) {
  Case c = base(1.5);
  c.history = {{0, 2}, {4, 0}, {11, 1}};
  c.bias = {{8, 2.0f}};
  c.mask = {0xfffffff7u, 0xffffff0fu};
  c.row = {.temperature = 0.8f, .top_p = 0.85f, .min_p = 0.02f, .top_k = 25, .repetition_penalty = 1.1f, .presence_penalty = 0.3f,
           .frequency_penalty = 0.2f, .seed = 9};
  expect_distribution(c);
  c.row.typical_p = 0.95f;
  expect_distribution(c);
}

TEST(SampleRow, ALongTailKeepsItsShare) {
  Case c{.logits = std::vector<float>(30'000, -13.0f), .row = {.temperature = 1, .seed = 4}};
  c.logits[20'000] = 0;
  const double share = 29'999 * std::exp(-13.0) / (1 + 29'999 * std::exp(-13.0));
  SampleScratch scratch;
  int others = 0;
  for (int i = 0; i < 20'000; ++i) {
    c.row.position = static_cast<uint64_t>(i);
    others += sample(c, scratch) != 20'000;
  }
  EXPECT_NEAR(others, share * 20'000, 5 * std::sqrt(share * 20'000) + 1);
}

// Log-probabilities in doubles with a full sort.
TEST(LogprobRow, AgreesWithASort) {
  SplitMix64 rng(31);
  SampleScratch scratch;
  for (int round = 0; round < 300; ++round) {
    const size_t vocab = 1 + rng.below(3'000);
    auto logits = random_logits(rng, vocab, 3);
    if (round % 3 == 0) for (float& v : logits) v = std::round(v);
    if (round % 5 == 0) logits[rng.below(vocab)] = kNan, logits[rng.below(vocab)] = -kInfinity, logits[rng.below(vocab)] = 0;
    std::vector<int32_t> order;
    double sum = 0;
    for (size_t i = 0; i < vocab; ++i) {
      if (clean_logit(logits[i]) == -kInfinity) continue;
      order.push_back(static_cast<int32_t>(i));
      sum += std::exp(static_cast<double>(logits[i]));
    }
    std::stable_sort(order.begin(), order.end(), [&](int a, int b) { return logits[a] > logits[b]; });
    const auto top = static_cast<int32_t>(rng.below(25));
    const size_t place = rng.below(order.size());
    LogprobRow row;
    logprob_row(logits, order[place], top, row, scratch);
    EXPECT_EQ(row.rank, static_cast<int32_t>(place) + 1);
    EXPECT_NEAR(row.chosen, logits[order[place]] - std::log(sum), 1e-5);
    ASSERT_EQ(row.top.size(), std::min<size_t>(top, order.size()));
    for (size_t i = 0; i < row.top.size(); ++i) {
      EXPECT_EQ(row.top[i].token, order[i]);
      EXPECT_NEAR(row.top[i].logprob, logits[order[i]] - std::log(sum), 1e-5);
    }
  }
}

TEST(LogprobRow, ImpossibleTokensAreMinusInfinity) {
  SampleScratch scratch;
  LogprobRow row;
  logprob_row(std::vector<float>{1, -kInfinity, kNan}, 1, 5, row, scratch);
  EXPECT_EQ(row.chosen, -kInfinity);
  EXPECT_EQ(row.rank, 2);
  ASSERT_EQ(row.top.size(), 1u);
  EXPECT_EQ(row.top[0].logprob, 0);
  logprob_row(std::vector<float>{kNan, kNan}, 1, 5, row, scratch);
  EXPECT_EQ(row.chosen, -kInfinity);
  EXPECT_TRUE(row.top.empty());
}

TEST(LogprobRow, AreOfTheRawLogits) {
  SplitMix64 rng(2);
  Case c{.logits = random_logits(rng, 400, 2), .row = {.temperature = 0.3f, .top_k = 3, .repetition_penalty = 2, .logprobs = 4},
         .history = {{0, 1}, {1, 1}}, .bias = {{17, 100.0f}}};
  SampleScratch scratch;
  LogprobRow sampled, raw;
  const SampledToken token = sample_row(c.logits, c.row, c.history, c.bias, c.mask, scratch, &sampled);
  EXPECT_EQ(token.token, 17);
  logprob_row(c.logits, 17, 4, raw, scratch);
  EXPECT_EQ(token.logprob, raw.chosen);
  EXPECT_EQ(token.rank, raw.rank);
  ASSERT_EQ(sampled.top.size(), 4u);
  EXPECT_EQ(sampled.top[3].token, raw.top[3].token);
}

TEST(SampleRow, AllocatesNothingOnceTheScratchIsReserved) {
  SplitMix64 rng(4);
  SampleScratch scratch(5'000);
  std::vector<Case> cases;
  for (int i = 0; i < 300; ++i) cases.push_back(random_case(rng));
  LogprobRow logprobs;
  logprobs.top.reserve(20);
  const uint64_t before = allocated_bytes_ever();
  for (Case& c : cases) {
    c.row.logprobs = c.row.seed % 2 ? 20 : -1;
    sample_row(c.logits, c.row, c.history, c.bias, c.mask, scratch, &logprobs);
  }
  EXPECT_EQ(allocated_bytes_ever(), before);
  sample_row(std::vector<float>(6'000), {.temperature = 1}, {}, {}, {}, scratch);
  EXPECT_GT(allocated_bytes_ever(), before) << "the counter counts";
}

}  // namespace
}  // namespace pagemill
