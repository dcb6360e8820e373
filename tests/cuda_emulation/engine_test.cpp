// The real engine over the CUDA backend on the emulated device: random models with the heads of SmolLM2, Qwen2.5 and Llama 3, run in
// every way that a server runs them.
#include <cmath>
#include <map>

#include "backend/cpu/reference_backend.h"
#include "cuda_emulation/control.h"
#include "cuda_emulation/families.h"
#include "engine/invariance_test.h"
#include "support/model_bench.h"

namespace pagemill {
namespace {

class EngineOnCuda : public testing::TestWithParam<Family> {
 protected:
  void SetUp() override { emulated::reset_device(); }
  void TearDown() override { EXPECT_EQ(emulated::held(), emulated::Held{}) << "left on the device"; }
};

/// Level (b) of the numerics: mean KL and top-1.
void expect_level_b(const WeightSource& source, Backend& backend, double kl_max, double gap) {
  for (const int32_t chunk : {kTeacherTokens, 16, 1}) {
    const Divergence found = divergence(source, backend, {chunk}, gap);
    EXPECT_LE(found.kl, kl_max) << "in chunks of " << chunk;
    EXPECT_EQ(found.wrong_leader, 0) << "in chunks of " << chunk;
  }
}

TEST_P(EngineOnCuda, LogitsAreTheReferences) {
  const auto source = open_random_model(spec_of(GetParam()));
  const auto backend = cuda_backend();
  expect_level_b(*source, *backend, 2e-4, 0.05);
}

TEST_P(EngineOnCuda, QuantisedFilesToo) {
  const auto source = open_random_model(spec_of(GetParam(), "q8_0"));
  const auto backend = cuda_backend();
  expect_level_b(*source, *backend, 2e-4, 0.05);
}

TEST_P(EngineOnCuda, DeterministicRunsAreBitwiseTheSameInEveryWay) {
  const auto source = open_random_model(spec_of(GetParam()));
  emulated::set_thread_order(7);
  const BackendUnderTest cuda{.name = "cuda", .make = [](int) { return cuda_backend({.deterministic = true}); }, .kv_dtype = DType::f16};
  // Answers grow by two blocks: a start keeps one in hand for every running sequence, so shorter ones are never preempted.
  expect_invariant(*source, cuda, {.prompt_min = 18, .prompt_max = 20, .output = 31, .chunked_prompt = 8});
}

/// Greedy and sampled requests over the backend itself: steps recorded and replayed, two in flight. Against the same without graphs,
/// and against the reference as far as its gaps are wide.
TEST_P(EngineOnCuda, GraphsAndOverlappingStepsChangeNothing) {
  const auto source = open_random_model(spec_of(GetParam()));
  std::vector<EngineRequest> requests = sixteen_requests(512, {.prompt_min = 5, .prompt_max = 30, .output = 12});
  for (size_t i = 0; i < requests.size(); i += 2) requests[i].sampling.logprobs = 3;
  std::map<uint64_t, std::vector<int32_t>> expected;
  for (const bool graphs : {false, true}) {
    const auto backend = cuda_backend({.graphs = graphs, .deterministic = true});
    ASSERT_EQ(backend->steps_in_flight(), 2);
    ModelRig rig(*source, *backend, {.kv_dtype = DType::f16, .record_logits = false});
    const RigRun run = rig.run(requests);
    ASSERT_EQ(run.tokens.size(), 16u);
    if (!graphs) {
      expected = run.tokens;
      EXPECT_EQ(backend->graphs().recorded(), 0u);
      continue;
    }
    EXPECT_GT(backend->graphs().recorded(), 0u);
    EXPECT_GT(backend->graphs().replayed(), 2 * backend->graphs().recorded());
    EXPECT_EQ(run.tokens, expected);
    EXPECT_EQ(rig.run(requests).tokens, expected) << "again, with every graph there and the prompts cached";
  }
}

TEST_P(EngineOnCuda, GreedyTokensAreTheReferencesWhereItsGapsAreWide) {
  const auto source = open_random_model(spec_of(GetParam()));
  std::vector<EngineRequest> requests;
  for (uint64_t i = 0; i < 10; ++i) {
    EngineRequest& request = requests.emplace_back();
    request.prompt = prompt_of(10 + 9 * static_cast<int32_t>(i % 6), 512, i);
    request.sampling.temperature = 0;
    request.sampling.max_tokens = 16;
    request.sampling.seed = 100 * (i + 1);
  }
  ReferenceBackend reference(1);
  const auto backend = cuda_backend();
  const RigRun expected = ModelRig(*source, reference, {.record_logits = false}).run(requests);
  const RigRun got = ModelRig(*source, *backend, {.kv_dtype = DType::f16, .record_logits = false}).run(requests);
  auto bench = ModelBench::make(*source, reference, {.rows_max = 80, .logit_rows_max = 80, .kv_blocks = 16});
  ASSERT_TRUE(bench);
  int compared = 0;
  for (const EngineRequest& request : requests) {
    const std::vector<int32_t>& theirs = expected.tokens.at(*request.sampling.seed);
    const std::vector<int32_t>& ours = got.tokens.at(*request.sampling.seed);
    std::vector<int32_t> text = request.prompt;
    text.insert(text.end(), theirs.begin(), theirs.end());
    const std::vector<float> logits = (*bench)->logits(text, 80);
    for (size_t i = 0; i < theirs.size(); ++i) {
      std::vector<float> row(logits.begin() + static_cast<ptrdiff_t>((request.prompt.size() + i - 1) * 512), logits.begin() + static_cast<ptrdiff_t>((request.prompt.size() + i) * 512));
      std::nth_element(row.begin(), row.begin() + 1, row.end(), std::greater<>());
      if (row[0] - row[1] <= 0.05f) break;
      ++compared;
      ASSERT_EQ(ours[i], theirs[i]) << "token " << i << " of request " << *request.sampling.seed;
    }
  }
  EXPECT_GT(compared, 60);
}

INSTANTIATE_TEST_SUITE_P(Families, EngineOnCuda, testing::ValuesIn(kFamilies), [](const auto& each) { return each.param.name; });

class EngineOnCudaOnce : public testing::Test {
 protected:
  void SetUp() override { emulated::reset_device(); }
  void TearDown() override { EXPECT_EQ(emulated::held(), emulated::Held{}) << "left on the device"; }
};

TEST_F(EngineOnCudaOnce, Bfloat16Too) {
  const auto source = open_random_model(spec_of(kFamilies[2], "bf16"));
  const auto backend = cuda_backend({.dtype = DType::bf16});
  expect_level_b(*source, *backend, 3e-3, 0.3);  // eight bits of mantissa instead of eleven
}

TEST_F(EngineOnCudaOnce, WithoutCublasTheOwnKernelsDoAll) {
  const auto source = open_random_model(spec_of(kFamilies[0]));
  const auto backend = cuda_backend();
  backend->close_cublas();
  expect_level_b(*source, *backend, 2e-4, 0.05);
}

TEST_F(EngineOnCudaOnce, EmbeddingsAndPromptLogprobsWithStepsInFlight) {
  const auto source = open_random_model(spec_of(kFamilies[0]));
  std::vector<EngineRequest> requests = sixteen_requests(512, {.prompt_min = 5, .prompt_max = 40, .output = 10});
  for (size_t i = 0; i < requests.size(); i += 4) {
    requests[i].pooled_embedding = true;
    requests[i + 1].sampling.prompt_logprobs = 2;
  }
  ReferenceBackend reference(1);
  const auto backend = cuda_backend({.deterministic = true});
  const RigRun expected = ModelRig(*source, reference, {.max_num_batched_tokens = 48, .record_logits = false}).run(requests);
  const RigRun got = ModelRig(*source, *backend, {.max_num_batched_tokens = 48, .kv_dtype = DType::f16, .record_logits = false}).run(requests);
  ASSERT_EQ(got.embeddings.size(), 4u);
  for (const auto& [seed, values] : expected.embeddings)
    for (size_t i = 0; i < values.size(); ++i) ASSERT_NEAR(got.embeddings.at(seed)[i], values[i], 2e-3) << seed;
  ASSERT_EQ(got.scores.size(), expected.scores.size());
  for (const auto& [seed, scores] : expected.scores) {
    ASSERT_EQ(got.scores.at(seed).size(), scores.size());
    for (size_t i = 0; i < scores.size(); ++i) ASSERT_NEAR(got.scores.at(seed)[i].logprob, scores[i].logprob, 0.05) << seed << " " << i;
  }
}

}  // namespace
}  // namespace pagemill
