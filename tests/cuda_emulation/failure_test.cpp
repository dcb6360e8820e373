// A failure at the n-th CUDA call, for each n of a start and a request: a clear error, one end per request, nothing left behind.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <thread>

#include "backend/cuda/cuda.h"
#include "cuda_emulation/control.h"
#include "base/test_files.h"
#include "engine/engine.h"
#include "format/random_model.h"

namespace pagemill {
namespace {

class FailureTest : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder = std::make_unique<TemporaryFolder>();
    path = folder->path() / "model.gguf";
    RandomModelSpec spec = *random_model_spec("tiny-llama");
    spec.layers = 1;
    spec.hidden = 64;
    spec.ffn = 64;
    spec.heads = 2;
    spec.kv_heads = 1;
    spec.head_dim = 64;
    spec.vocab = 264;
    const auto written = write_random_model(spec, path);
    ASSERT_TRUE(written) << written.error().message;
  }
  static void TearDownTestSuite() { folder.reset(); }

  struct Outcome {
    bool made = false, loaded = false;
    int accepted = 0, ends = 0, errors = 0, tokens = 0;
    std::string message;
  };

  /// Whether a request is answered: not where it is refused, nor where it ends in an error. The engine's own thread may not have
  /// closed its door yet when the ends of the requests before are there.
  static bool answers(EngineHandle& engine) {
    const auto queue = std::make_shared<EventQueue>(nullptr);
    EngineRequest request;
    request.prompt = {1};
    request.events = queue;
    if (!engine.submit(std::move(request))) return false;
    for (std::vector<EngineEvent> events;; events.clear()) {
      if (queue->drain(events) == 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
      for (const EngineEvent& event : events)
        if (const auto* end = std::get_if<EndEvent>(&event.body)) return end->reason != FinishReason::error;
    }
  }

  /// A start and two requests, the second while the first runs.
  static Outcome run_once(const emulated::DeviceOptions& device = {}, std::optional<uint64_t> fail_at = {}, cudaError_t error = cudaErrorLaunchFailure) {
    emulated::reset_device(device);
    if (fail_at) emulated::fail_call(*fail_at, error);
    Outcome outcome;
    {
      auto backend = make_cuda_backend({.threads = 1});
      outcome.made = backend.has_value();
      if (!backend) {
        outcome.message = backend.error().message;
      } else {
        EngineOptions options;
        options.model = path;
        options.max_num_seqs = 4;
        options.max_num_batched_tokens = 16;
        options.kv_cache_memory_bytes = 1 << 20;
        const auto engine = make_engine(options, std::move(*backend));
        const auto loaded = wait_until_loaded(*engine);
        outcome.loaded = loaded.has_value();
        if (!loaded) outcome.message = loaded.error().message;
        const auto queue = std::make_shared<EventQueue>(nullptr);
        for (int i = 0; loaded && i < 2; ++i) {
          EngineRequest request;
          request.prompt.assign(20, 40 + i);
          request.sampling.max_tokens = 5;
          request.sampling.seed = 1;
          request.sampling.logprobs = 2;
          request.events = queue;
          outcome.accepted += engine->submit(std::move(request)).has_value();
        }
        std::vector<EngineEvent> events;
        while (outcome.ends < outcome.accepted) {
          events.clear();
          if (queue->drain(events) == 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
          for (const EngineEvent& event : events) {
            if (const auto* tokens = std::get_if<TokenEvent>(&event.body)) outcome.tokens += static_cast<int>(tokens->tokens.size());
            const auto* end = std::get_if<EndEvent>(&event.body);
            if (!end) continue;
            ++outcome.ends;
            if (end->reason != FinishReason::error) continue;
            ++outcome.errors;
            outcome.message = end->error.message;
          }
        }
        if (outcome.errors > 0) {
          EXPECT_FALSE(answers(*engine)) << "a failed engine answers nothing more";
        }
      }
    }
    EXPECT_EQ(emulated::held(), emulated::Held{}) << "left on the device";
    emulated::mend();
    return outcome;
  }

  static inline std::unique_ptr<TemporaryFolder> folder;
  static inline std::filesystem::path path;
};

TEST_F(FailureTest, AtEveryCall) {
  const Outcome whole = run_once();
  ASSERT_TRUE(whole.loaded) << whole.message;
  ASSERT_EQ(whole.ends, 2);
  ASSERT_EQ(whole.errors, 0) << whole.message;
  ASSERT_EQ(whole.tokens, 10);
  const uint64_t calls = emulated::calls();
  ASSERT_GT(calls, 150u);
  int before = 0, loading = 0, running = 0, late = 0;
  for (const cudaError_t error : {cudaErrorLaunchFailure, cudaErrorMemoryAllocation}) {
    for (uint64_t n = 0; n < calls; n += error == cudaErrorLaunchFailure ? 1 : 5) {
      SCOPED_TRACE("call " + std::to_string(n) + " of " + std::to_string(calls));
      const Outcome outcome = run_once({}, n, error);
      ASSERT_EQ(outcome.ends, outcome.accepted);
      if (!outcome.made) ++before;
      else if (!outcome.loaded) ++loading;
      else if (outcome.errors > 0) ++running;
      else ++late;
      if (outcome.errors > 0 || !outcome.loaded) {
        ASSERT_FALSE(outcome.message.empty());
      } else {
        ASSERT_EQ(outcome.tokens, 10) << "a step that failed gave tokens";
      }
    }
  }
  std::printf("%d failures before a backend was there, %d while loading, %d with requests under way, %d without consequences\n", before, loading, running, late);
  EXPECT_GT(loading, 50);
  EXPECT_GT(running, 50);
  EXPECT_LT(late, 20);
}

TEST_F(FailureTest, SaysWhatIsMissing) {
  EXPECT_THAT(run_once({.present = false}).message, testing::HasSubstr("sees no GPU"));
  EXPECT_THAT(run_once({.driver = 0}).message, testing::HasSubstr("no NVIDIA driver"));
  EXPECT_THAT(run_once({.driver = 12020}).message, testing::AllOf(testing::HasSubstr("12.2"), testing::HasSubstr("13.0")));
  EXPECT_THAT(run_once({.major = 7, .minor = 5}).message, testing::HasSubstr("sm_75"));
  EXPECT_THAT(run_once({.memory_bytes = 40 << 20}).message, testing::AnyOf(testing::HasSubstr("GPU memory"), testing::HasSubstr("available")));
}

/// Whatever else takes memory after the start, a running engine asks for none.
TEST_F(FailureTest, NothingIsAllocatedAfterTheStart) {
  emulated::reset_device();
  auto backend = make_cuda_backend({.threads = 1});
  ASSERT_TRUE(backend);
  EngineOptions options;
  options.model = path;
  options.max_num_seqs = 4;
  options.max_num_batched_tokens = 64;
  options.kv_cache_memory_bytes = 1 << 20;
  const auto engine = make_engine(options, std::move(*backend));
  ASSERT_TRUE(wait_until_loaded(*engine));
  const emulated::Held held = emulated::held();
  const auto queue = std::make_shared<EventQueue>(nullptr);
  for (int i = 0; i < 8; ++i) {
    EngineRequest request;
    request.prompt.assign(static_cast<size_t>(3 + 11 * i), 40 + i);
    request.sampling.max_tokens = 30;
    request.sampling.seed = static_cast<uint64_t>(i);
    request.sampling.repetition_penalty = 1.1f;
    request.sampling.logprobs = 20;
    request.events = queue;
    ASSERT_TRUE(engine->submit(std::move(request)));
  }
  std::vector<EngineEvent> events;
  for (int ends = 0; ends < 8;) {
    events.clear();
    if (queue->drain(events) == 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    for (const EngineEvent& event : events) ends += std::holds_alternative<EndEvent>(event.body);
  }
  const emulated::Held now = emulated::held();
  EXPECT_EQ(now.device_bytes, held.device_bytes);
  EXPECT_EQ(now.pinned_bytes, held.pinned_bytes);
  EXPECT_GT(emulated::graphs_launched(), 10u);
}

}  // namespace
}  // namespace pagemill
