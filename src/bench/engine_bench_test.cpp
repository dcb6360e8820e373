#include "bench/engine_bench.h"

#include <gtest/gtest.h>

#include <mutex>

#include "format/random_model.h"
#include "session/scripted_engine.h"

namespace pagemill {
namespace {

constexpr TimeNs kFirst = 20 * kNsPerMs, kToken = 2 * kNsPerMs;

/// A scripted engine with known speeds that keeps what it was asked.
struct Bench {
  RandomModelSpec spec = *random_model_spec("tiny-llama");
  std::unique_ptr<WeightSource> source = open_random_model(spec);
  std::shared_ptr<const TextModel> text = *TextModel::from_source(*source);
  std::mutex mutex;
  std::vector<EngineRequest> asked;
  std::unique_ptr<EngineHandle> engine;

  Bench() {
    ScriptedEngineConfig config;
    config.model.name = "scripted";
    config.model.context_max = 4096;
    config.model.vocab = spec.vocab;
    config.script = [this](const EngineRequest& request) {
      std::lock_guard lock(mutex);
      asked.push_back(request);
      ScriptedAnswer answer;
      answer.tokens.assign(*request.sampling.max_tokens, 'a');
      answer.reason = FinishReason::length;
      answer.first_token_ns = kFirst;
      answer.per_token_ns = kToken;
      return answer;
    };
    engine = make_scripted_engine(std::move(config));
  }
};

TEST(EngineBench, MeasuresWhatTheEngineDoes) {
  Bench bench;
  EngineBenchOptions options;
  options.prompts = {100, 200};
  options.decode = 20;
  options.streams = {1, 3};
  EngineBench engine_bench(*bench.engine, *bench.text, bench.engine->models()[0], options);
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(engine_bench.run_once());
  ASSERT_EQ(engine_bench.rows().size(), 4u);
  for (const EngineBenchRow& row : engine_bench.rows()) {
    // Waiting for the first token can only take longer than scripted. A decode is counted from when that token was seen: late on a busy
    // machine, so its rate is only in the right region.
    const bool prefill = row.test.kind == BenchTest::prefill;
    const double scripted = row.test.size / (prefill ? 0.020 : 0.002);
    EXPECT_EQ(row.speed.tokens_per_s.runs.size(), 3u);
    for (const double rate : row.speed.tokens_per_s.runs) EXPECT_LE(rate, scripted * (prefill ? 1.01 : 10));
    EXPECT_GT(row.speed.tokens_per_s.median(), scripted / 10);
  }
}

TEST(EngineBench, AsksForFreshPromptsAndFullAnswers) {
  Bench bench;
  EngineBenchOptions options;
  options.prompts = {50};
  options.decode = 4;
  options.depth = 30;
  options.streams = {2};
  EngineBench engine_bench(*bench.engine, *bench.text, bench.engine->models()[0], options);
  ASSERT_TRUE(engine_bench.run_once());
  ASSERT_EQ(bench.asked.size(), 4u);  // a context, its continuation, two decodes
  EXPECT_EQ(bench.asked[0].prompt.size(), 30u);
  EXPECT_EQ(bench.asked[1].prompt.size(), 80u);
  EXPECT_TRUE(std::equal(bench.asked[0].prompt.begin(), bench.asked[0].prompt.end(), bench.asked[1].prompt.begin()));
  EXPECT_EQ(bench.asked[2].prompt.size(), 30u);
  EXPECT_NE(bench.asked[2].prompt, bench.asked[0].prompt);
  EXPECT_NE(bench.asked[2].prompt, bench.asked[3].prompt);
  EXPECT_EQ(bench.asked[2].sampling.max_tokens, 4);
  for (const EngineRequest& request : bench.asked) EXPECT_TRUE(request.sampling.ignore_eos);
}

TEST(EngineBench, JudgesAgainstTheMachine) {
  Bench bench;
  EngineBenchOptions options;
  options.prompts = {10};
  options.decode = 8;
  EngineBench engine_bench(*bench.engine, *bench.text, bench.engine->models()[0], options);
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(engine_bench.run_once());
  MachineLimits slow;  // far below what the script does
  slow.read_all_threads.best = 1000;
  slow.int8_ops.best = slow.float16_ops.best = slow.float32_ops.best = 1000;
  ModelWork work;
  work.weight_bytes = 1e6;
  work.int8_weights = 1e6;
  engine_bench.judge(slow, work, 0);
  for (const EngineBenchRow& row : engine_bench.rows()) {
    EXPECT_FALSE(row.speed.invalid.empty());
    EXPECT_GT(row.speed.share(), 1);
    EXPECT_EQ(row.speed.limit_held, 0);
  }
}

TEST(EngineBench, ShowsWhatAMachineHoldsBesideWhatItReaches) {
  Bench bench;
  EngineBenchOptions options;
  options.prompts = {10};
  EngineBench engine_bench(*bench.engine, *bench.text, bench.engine->models()[0], options);
  ASSERT_TRUE(engine_bench.run_once());
  MachineLimits gpu;
  gpu.read_all_threads.best = 4e12;
  gpu.float16_ops.best = 800e12;
  gpu.float16_held = {.variant = "under load", .best = 700e12, .median = 600e12, .worst = 500e12};
  ModelWork work;
  work.weight_bytes = 14e9;
  work.float16_weights = 7e9;
  work.attention_flops = 4e5;
  engine_bench.judge(gpu, work, 0);
  const Speed& prefill = engine_bench.rows().front().speed;
  EXPECT_NEAR(prefill.limit_held / prefill.limit, 600.0 / 800, 1e-9);
  EXPECT_NEAR(prefill.share_held() / prefill.share(), 800.0 / 600, 1e-9);
  const Speed& decode = engine_bench.rows().back().speed;  // of one stream: bound by memory
  EXPECT_EQ(decode.limit_held, decode.limit);
}

TEST(EngineBench, ARefusedRequestIsAnError) {
  Bench bench;
  EngineBenchOptions options;
  options.prompts = {5000};  // beyond the context
  EngineBench engine_bench(*bench.engine, *bench.text, bench.engine->models()[0], options);
  const auto result = engine_bench.run_once();
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code, ErrorCode::context_too_long);
}

}  // namespace
}  // namespace pagemill
