// Tokens per second that the scripted engine gives one reader, over many streams.
#include <benchmark/benchmark.h>

#include <semaphore>

#include "session/scripted_engine.h"

namespace pagemill {
namespace {

void run(benchmark::State& state) {
  const auto streams = static_cast<size_t>(state.range(0));
  constexpr size_t kTokens = 200;
  std::counting_semaphore<> woken(0);
  const auto queue = std::make_shared<EventQueue>([&woken] { woken.release(); }, 16'384);
  ScriptedEngineConfig config;
  config.model = {.name = "test", .context_max = 1000, .vocab = 300};
  config.running_max = static_cast<int32_t>(streams);
  config.queued_max = static_cast<int32_t>(streams);
  config.script = [](const EngineRequest&) { return ScriptedAnswer{.tokens = std::vector<int32_t>(kTokens, 5)}; };
  const auto engine = make_scripted_engine(config);
  std::vector<EngineEvent> events;
  for (auto _ : state) {
    for (size_t i = 0; i < streams; ++i) {
      EngineRequest request;
      request.prompt = {1};
      request.events = queue;
      benchmark::DoNotOptimize(engine->submit(std::move(request)));
    }
    for (size_t ends = 0; ends < streams;) {
      woken.acquire();
      events.clear();
      queue->drain(events);
      for (const EngineEvent& event : events) ends += std::holds_alternative<EndEvent>(event.body);
    }
  }
  state.counters["tokens_per_s"] = benchmark::Counter(static_cast<double>(state.iterations()) * static_cast<double>(streams * kTokens), benchmark::Counter::kIsRate);
}
BENCHMARK(run)->ArgName("streams")->Arg(1)->Arg(100)->Arg(4000)->UseRealTime()->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace pagemill

BENCHMARK_MAIN();
