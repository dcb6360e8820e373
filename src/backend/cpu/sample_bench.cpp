// µs per row of the CPU sampler at the vocabulary of Qwen2.5 (152064), for the logits of a model that knows what comes next
// and for flat ones. `bytes_per_second` is of the logits, read once: compare it with the memory bandwidth.
#include <benchmark/benchmark.h>

#include <cmath>

#include "backend/cpu/sample.h"
#include "base/rng.h"

namespace pagemill {
namespace {

constexpr size_t kVocab = 152'064;

std::vector<float> make_logits(bool peaked) {
  SplitMix64 rng(1);
  std::vector<float> logits(kVocab);
  for (float& logit : logits) logit = static_cast<float>(rng.normal() * (peaked ? 2.5 : 0.3));
  // A tail of likely tokens as Zipf's law has it.
  if (peaked) for (int i = 0; i < 500; ++i) logits[rng.below(kVocab)] = 20.0f - 1.2f * std::log(1.0f + static_cast<float>(i));
  return logits;
}

void run(benchmark::State& state, SamplingRow row, int history = 0, bool masked = false) {
  const auto logits = make_logits(state.range(0) != 0);
  SampleScratch scratch(kVocab);
  std::vector<HistoryEntry> entries;
  for (int i = 0; i < history; ++i) entries.push_back({i * 7, i % 3});
  std::vector<uint32_t> mask(masked ? (kVocab + 31) / 32 : 0, 0x77777777u);
  LogprobRow logprobs;
  row.seed = 1;
  for (auto _ : state) {
    ++row.position;
    benchmark::DoNotOptimize(sample_row(logits, row, entries, {}, mask, scratch, &logprobs));
  }
  state.SetBytesProcessed(static_cast<int64_t>(state.iterations()) * static_cast<int64_t>(kVocab * sizeof(float)));
}

#define SAMPLE_BENCH(name, ...) BENCHMARK_CAPTURE(run, name, __VA_ARGS__)->ArgName("peaked")->Arg(1)->Arg(0)->Unit(benchmark::kMicrosecond)

SAMPLE_BENCH(greedy, SamplingRow{});
SAMPLE_BENCH(greedy_penalties, SamplingRow{.repetition_penalty = 1.05f}, 2'000);
SAMPLE_BENCH(temperature, SamplingRow{.temperature = 1});
SAMPLE_BENCH(temperature_masked, SamplingRow{.temperature = 1}, 0, true);
SAMPLE_BENCH(top_k_50, SamplingRow{.temperature = 1, .top_k = 50});
SAMPLE_BENCH(top_p_09, SamplingRow{.temperature = 1, .top_p = 0.9f});
SAMPLE_BENCH(min_p_005, SamplingRow{.temperature = 1, .min_p = 0.05f});
SAMPLE_BENCH(typical_p_09, SamplingRow{.temperature = 1, .typical_p = 0.9f});
SAMPLE_BENCH(qwen_defaults, SamplingRow{.temperature = 0.7f, .top_p = 0.8f, .top_k = 20, .repetition_penalty = 1.05f}, 2'000);
SAMPLE_BENCH(greedy_logprobs_20, SamplingRow{.logprobs = 20});

}  // namespace
}  // namespace pagemill

BENCHMARK_MAIN();
