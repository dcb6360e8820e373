// The shipped front door with the default model, and the same model run in every way.
#include "engine/engine.h"
#include "engine/invariance_test.h"
#include "format/gguf.h"
#include "model/golden_models.h"

namespace pagemill {
namespace {

class DefaultModelOnBackendTest : public testing::TestWithParam<BackendUnderTest> {};

TEST_P(DefaultModelOnBackendTest, EveryWayOfRunningIsBitwiseTheSame) {
  const auto source = open_gguf(default_model_path());
  ASSERT_TRUE(source) << source.error().message;
  expect_invariant(**source, GetParam(), {.prompt_min = 28, .prompt_max = 31, .output = 22, .chunked_prompt = 12});
}

INSTANTIATE_TEST_SUITE_P(Backends, DefaultModelOnBackendTest, testing::ValuesIn(shipped_backends()), [](const auto& each) { return each.param.name; });

TEST(DefaultModelEngineTest, MakeEngineLoadsAndAnswers) {
  auto engine = make_engine({.model = default_model_path(), .stop_tokens = {2}, .max_num_seqs = 8, .max_num_batched_tokens = 128}, std::move(*make_cpu_backend("auto", 0, true)));
  double last = 0;
  const auto loaded = wait_until_loaded(*engine, [&](const EngineStats& stats) {
    EXPECT_GE(stats.load_progress, last);
    last = stats.load_progress;
  });
  ASSERT_TRUE(loaded) << loaded.error().message;
  const EngineModelInfo info = engine->models().at(0);
  EXPECT_EQ(info.name, "SmolLM2-135M-Instruct.Q4_1");
  EXPECT_EQ(info.vocab, 49152);
  EXPECT_EQ(info.stop_tokens, std::vector<int32_t>{2});
  EXPECT_GT(info.context_max, 1024);

  std::mutex mutex;
  std::condition_variable woken;
  auto queue = std::make_shared<EventQueue>([&] { woken.notify_one(); });
  for (int i = 0; i < 3; ++i) {
    EngineRequest request;
    request.prompt = {504, 3575, 282, 4649, 314};  // "The capital of France is"
    request.sampling.temperature = 0;
    request.sampling.max_tokens = 6;
    request.events = queue;
    ASSERT_TRUE(engine->submit(request));
  }
  std::vector<EngineEvent> events;
  std::map<RequestId, std::vector<int32_t>> tokens;
  for (int ends = 0; ends < 3;) {
    events.clear();
    queue->drain(events);
    for (const EngineEvent& event : events) {
      if (const auto* t = std::get_if<TokenEvent>(&event.body)) tokens[event.request].insert(tokens[event.request].end(), t->tokens.begin(), t->tokens.end());
      ends += std::holds_alternative<EndEvent>(event.body);
    }
    std::unique_lock lock(mutex);
    woken.wait_for(lock, std::chrono::milliseconds(5));
  }
  ASSERT_EQ(tokens.size(), 3u);
  EXPECT_EQ(tokens.begin()->second, std::prev(tokens.end())->second);
  EXPECT_EQ(tokens.begin()->second.size(), 6u);
}

TEST(DefaultModelEngineTest, ALengthThatDoesNotFitNamesTheOneThatWould) {
  auto engine = make_engine({.model = default_model_path(), .max_model_len = 8192, .max_num_seqs = 8, .max_num_batched_tokens = 128,
                             .kv_cache_memory_bytes = 64u << 20},
                            std::move(*make_cpu_backend("auto", 0, true)));
  const auto loaded = wait_until_loaded(*engine);
  ASSERT_FALSE(loaded);
  EXPECT_EQ(loaded.error().code, ErrorCode::out_of_memory) << loaded.error().message;
  EXPECT_THAT(loaded.error().message, testing::HasSubstr("would fit"));
  EXPECT_EQ(engine->stats().state, EngineState::failed);
  EXPECT_FALSE(engine->submit({}));
}

}  // namespace
}  // namespace pagemill
