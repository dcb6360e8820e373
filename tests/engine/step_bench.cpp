// Host time of a decode step (scheduling, building the step's arrays, sampling's bookkeeping, events) at 1, 64 and 256 streams.
// The device says its tokens in no time, so all that is measured is the engine. Target: 20 µs + 2 µs per stream and step.
#include <benchmark/benchmark.h>

#include "engine/core.h"

namespace pagemill {
namespace {

/// Says the same token for every row at once.
class InstantDevice final : public StepRunner {
 public:
  Result<Ticket> begin(const StepInputs& inputs, std::span<const KvCopy>, const StepExtras&) override {
    tokens_.assign(inputs.logit_rows.size(), SampledToken{.token = 7});
    return ++ticket_;
  }
  Result<StepResult> finish(Ticket) override { return StepResult{.tokens = tokens_, .logprobs = {}, .scores = {}, .duration_ns = 1}; }
  int tickets_max() const override { return 1; }

 private:
  std::vector<SampledToken> tokens_;
  Ticket ticket_ = 0;
};

void decode_step(benchmark::State& state) {
  constexpr int32_t kContext = 4096;
  const auto streams = static_cast<int32_t>(state.range(0));
  InstantDevice device;
  SteadyClock clock;
  Admission admission({.model = {.name = "fake", .context_max = kContext, .vocab = 128'000, .stop_tokens = {0}}, .max_num_seqs = streams});
  EngineCore core({.scheduler = {.max_num_seqs = streams, .max_num_batched_tokens = std::max(2048, streams)},
                   .blocks = {.groups = {{.blocks = streams * kContext / limits::kBlockTokens}}}}, admission, device, clock);
  auto queue = std::make_shared<EventQueue>(nullptr);
  std::vector<EngineEvent> events;
  events.reserve(4096);
  const auto keep_running = [&] {
    for (auto running = static_cast<int32_t>(core.requests()); running < streams; ++running) {
      EngineRequest request;
      request.prompt.assign(1024, 5 + running);
      request.sampling.max_tokens = kContext - 1024;
      request.events = queue;
      const auto id = admission.accept(request);
      core.submit(*id, std::move(request), clock.now_ns());
    }
    while (core.scheduler().running() < streams || core.scheduler().queue_size() > 0) core.step();
    for (int i = 0; i < 700; ++i) {
      core.step();
      events.clear();
      queue->drain(events);
    }
  };
  keep_running();
  int64_t steps = 0;
  for (auto _ : state) {
    core.step();
    state.PauseTiming();
    events.clear();
    queue->drain(events);
    if (++steps % 1000 == 0 && core.requests() < static_cast<size_t>(streams)) keep_running();
    state.ResumeTiming();
  }
  state.counters["us_per_step_allowed"] = 20 + 2 * streams;
  state.counters["per_token"] = benchmark::Counter(static_cast<double>(steps) * streams, benchmark::Counter::kIsRate | benchmark::Counter::kInvert);
}

BENCHMARK(decode_step)->Arg(1)->Arg(64)->Arg(256)->Unit(benchmark::kMicrosecond)->Iterations(2000);

}  // namespace
}  // namespace pagemill

BENCHMARK_MAIN();
