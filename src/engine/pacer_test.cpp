// Pacer: does prefill stay within its share of a step's time on devices of every kind?
#include "engine/pacer.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "base/rng.h"

namespace pagemill {
namespace {

constexpr double kStepMaxMs = 200;

/// What a step takes, in ms. Attention makes a prompt's row dearer with every position before it.
struct Device {
  double decode_ms = 20;                 // of a step without prompt rows
  double row_ms = 1;                     // of a prompt row
  double position_us = 0.1;              // of a prompt row, for each position before it
  bool read_bound = false;               // reading the weights hides the first rows' arithmetic, as matrix products on a CPU do
  double noise = 0.1;                    // every step ± so much of it

  double step_ms(int32_t rows, int32_t position, SplitMix64& random) const {
    const double attention = rows * (position + rows / 2.0) * position_us * 1e-3;
    const double linear = read_bound ? std::max(decode_ms, rows * row_ms) : decode_ms + rows * row_ms;
    return (linear + attention) * (1 + noise * (2 * random.uniform() - 1));
  }
};

/// Steps of running answers: some without a prompt, then a prompt of `prompt` tokens. The times of those with prompt rows.
std::vector<double> read_prompt(Pacer& pacer, const Device& device, int32_t prompt, int32_t first_position = 0) {
  SplitMix64 random(3);
  std::vector<double> times;
  const auto step = [&](int32_t rows, int32_t position) {
    const double ms = device.step_ms(rows, position, random);
    pacer.observe(rows, Pacer::position_sum(rows, position), static_cast<TimeNs>(ms * kNsPerMs));
    return ms;
  };
  step(8, 0);                            // the running answers' own prompts
  for (int i = 0; i < 50; ++i) step(0, 0);
  for (int32_t position = first_position; position < prompt;) {
    const int32_t wanted = std::max(pacer.rows_within(pacer.prompt_ns(true), position), Pacer::rows_min(8));
    const int32_t rows = std::min({wanted, prompt - position, 2048});
    times.push_back(step(rows, position));
    position += rows;
  }
  return times;
}

double percentile(std::vector<double> values, double share) {
  std::sort(values.begin(), values.end());
  return values[static_cast<size_t>(share * static_cast<double>(values.size() - 1))];
}

/// The engine's promise: p99 of the time between two tokens ≤ 3 × what it is without the prompt, and one step's limit.
TEST(PacerTest, ALongPromptLeavesRunningAnswersTheirTime) {
  for (const double decode_ms : {2.0, 20.0, 60.0, 150.0, 600.0}) {
    for (const double row_ms : {0.02, 0.3, 2.0, 15.0, 60.0}) {
      for (const double position_us : {0.0, 0.05, 1.0, 5.0}) for (const bool read_bound : {false, true}) {
        const Device device{.decode_ms = decode_ms, .row_ms = row_ms, .position_us = position_us, .read_bound = read_bound};
        Pacer pacer(static_cast<TimeNs>(kStepMaxMs * kNsPerMs));
        const std::vector<double> times = read_prompt(pacer, device, 8192);
        // One row is the least there is: where even that takes longer, nothing can be promised.
        const double row_max = row_ms + 8192 * position_us * 1e-3;
        const double bound = std::max(3 * decode_ms + kStepMaxMs, 1.1 * (decode_ms + row_max));
        EXPECT_LE(percentile(times, 0.99), bound)
            << fmt::format("decode {} ms, row {} ms, position {} us: {} steps", decode_ms, row_ms, position_us, times.size());
      }
    }
  }
}

TEST(PacerTest, ThePromptGetsMostOfTheTimeThatIsItsOwn) {
  for (const double row_ms : {0.3, 2.0, 15.0}) {
    const Device device{.decode_ms = 20, .row_ms = row_ms};
    Pacer pacer(static_cast<TimeNs>(kStepMaxMs * kNsPerMs));
    const std::vector<double> times = read_prompt(pacer, device, 8192);
    double total = 0;
    for (const double ms : times) total += ms;
    EXPECT_GT(total / static_cast<double>(times.size()), 0.6 * kStepMaxMs) << "steps are much shorter than they may be; a row takes " << row_ms << " ms";
  }
}

TEST(PacerTest, APromptThatStartsLateInItsContextSettlesSoon) {
  const Device device{.decode_ms = 20, .row_ms = 0.5, .position_us = 1};
  Pacer pacer(static_cast<TimeNs>(kStepMaxMs * kNsPerMs));
  read_prompt(pacer, device, 2048);
  const std::vector<double> times = read_prompt(pacer, device, 131'072, 120'000);  // the rest of it was in the prefix cache
  const auto late = std::count_if(times.begin(), times.end(), [](double ms) { return ms > 3 * 20 + kStepMaxMs; });
  EXPECT_LE(late, 8);
}

/// Drives a pacer with steps of this duration beside 8 answers, all at the beginning of prompts; the rows it gave in the last.
template <class Duration>
int32_t drive(Pacer& pacer, int steps, Duration duration) {
  int32_t rows = 0;
  for (int i = 0; i < steps; ++i) {
    rows = std::max(pacer.rows_within(pacer.prompt_ns(true), 0), Pacer::rows_min(8));
    pacer.observe(rows, Pacer::position_sum(rows, 0), duration(rows));
  }
  return rows;
}

TEST(PacerTest, AHiccupIsForgotten) {
  Pacer pacer(static_cast<TimeNs>(kStepMaxMs * kNsPerMs));
  const auto duration = [](int32_t prompt) { return 30 * kNsPerMs + prompt * kNsPerMs / 2; };
  for (int i = 0; i < 50; ++i) pacer.observe(0, 0, duration(0));
  EXPECT_NEAR(drive(pacer, 50, duration), 300, 10);    // nine tenths of the limit
  pacer.observe(300, Pacer::position_sum(300, 0), 4000 * kNsPerMs);
  EXPECT_LT(drive(pacer, 1, duration), 60);
  EXPECT_NEAR(drive(pacer, 200, duration), 300, 40);
}

TEST(PacerTest, AnswersThatFillTheStepStillLeavePromptsAShare) {
  Pacer pacer(static_cast<TimeNs>(kStepMaxMs * kNsPerMs));  // the answers alone take twice as long, and a row 50 ms
  const auto duration = [](int32_t prompt) { return 400 * kNsPerMs + prompt * 50 * kNsPerMs; };
  for (int i = 0; i < 20; ++i) pacer.observe(0, 0, duration(0));
  EXPECT_NEAR(drive(pacer, 200, duration), 8, 2);
}

TEST(PacerTest, AStepWhoseFixedCostIsTheLimitDoesNotShrinkToNothing) {
  Pacer pacer(static_cast<TimeNs>(kStepMaxMs * kNsPerMs));  // never a step without prompt rows to learn the base from
  EXPECT_GT(drive(pacer, 300, [](int32_t prompt) { return 250 * kNsPerMs + prompt * kNsPerMs; }), 100);
}

/// 20 times what a step takes without prompt rows, up to 25 times the limit.
TEST(PacerTest, WhereNobodyAnswersAModelThatIsSlowToReadGetsStepsThatPayForIt) {
  for (const auto& [base_ms, expected] : {std::pair{150, (0.9 * 3000 - 150) / 15}, {600, (0.9 * 5000 - 600) / 15}}) {
    Pacer pacer(static_cast<TimeNs>(kStepMaxMs * kNsPerMs));
    const auto duration = [base = base_ms](int32_t prompt) { return base * kNsPerMs + prompt * 15 * kNsPerMs; };
    for (int i = 0; i < 50; ++i) pacer.observe(0, 0, duration(0));
    int32_t rows = 0;
    for (int i = 0; i < 8; ++i) {
      rows = std::max(pacer.rows_within(pacer.prompt_ns(false), 0), Pacer::rows_min(0));
      pacer.observe(rows, Pacer::position_sum(rows, 0), duration(rows));
    }
    EXPECT_NEAR(rows, expected, 0.05 * expected) << base_ms;
  }
}

TEST(PacerTest, WhereNobodyAnswersAPromptIsReadInLongerSteps) {
  Pacer pacer(static_cast<TimeNs>(kStepMaxMs * kNsPerMs));
  const auto duration = [](int32_t prompt) { return 30 * kNsPerMs + prompt * kNsPerMs / 2; };
  EXPECT_NEAR(drive(pacer, 50, duration), 300, 10);
  int32_t rows = 0;
  for (int i = 0; i < 50; ++i) {
    rows = pacer.rows_within(pacer.prompt_ns(false), 0);
    pacer.observe(rows, Pacer::position_sum(rows, 0), duration(rows));
  }
  EXPECT_NEAR(rows, 1740, 60);           // 0.9 of a second, less 30 ms
  EXPECT_LT(duration(drive(pacer, 1, duration)), 1.1 * kStepMaxMs * kNsPerMs) << "an answer that begins has its limit at once";
}

TEST(PacerTest, AStepThatIsFullTakesNoMoreRows) {
  Pacer pacer(static_cast<TimeNs>(kStepMaxMs * kNsPerMs));
  read_prompt(pacer, {.position_us = 5}, 4096);
  for (const double ns : {0.0, -1.0, -1e9, -1e18}) {
    for (const int32_t first : {0, 4096, 131'071}) EXPECT_EQ(pacer.rows_within(ns, first), 0);
  }
}

TEST(PacerTest, WithoutALimitThereIsNone) {
  const Pacer pacer(0);
  EXPECT_EQ(pacer.rows_within(pacer.prompt_ns(false), 1'000'000), INT32_MAX);
}

TEST(PacerTest, TheFirstStepIsShortOnASlowDevice) {
  Pacer pacer(static_cast<TimeNs>(kStepMaxMs * kNsPerMs));
  EXPECT_LE(pacer.rows_within(pacer.prompt_ns(false), 0), 32) << "nothing is known yet: a row may take 60 ms";
}

}  // namespace
}  // namespace pagemill
