// The same request gives bitwise the same logits and tokens however it is run: alone, batched with 15 others, its prompt
// chunked at every size, from the prefix cache, preempted and resumed, forked from a shared prompt.
#pragma once

#include "base/rng.h"
#include "engine/backends_under_test.h"
#include "engine/model_rig.h"

namespace pagemill {

struct InvarianceSize {
  int32_t prompt_min = 20, prompt_max = 90;
  int32_t output = 52;
  int32_t chunked_prompt = 50;
};

/// Sixteen requests; greedy, sampled and penalised in turn. Seeds lie apart, for choices take the seeds that follow.
inline std::vector<EngineRequest> sixteen_requests(int32_t vocab, const InvarianceSize& size) {
  SplitMix64 random(17);
  std::vector<EngineRequest> requests(16);
  for (size_t i = 0; i < requests.size(); ++i) {
    EngineRequest& r = requests[i];
    const auto length = size.prompt_min + static_cast<int32_t>(random.below(static_cast<uint64_t>(size.prompt_max - size.prompt_min) + 1));
    for (int32_t t = 0; t < length; ++t) r.prompt.push_back(static_cast<int32_t>(random.below(static_cast<uint64_t>(vocab))));
    r.sampling.max_tokens = size.output;
    r.sampling.seed = 1000 * (i + 1);
    r.sampling.temperature = i % 3 == 0 ? 0.0f : 0.8f;
    if (i % 3 == 2) {
      r.sampling.repetition_penalty = 1.2f;
      r.sampling.frequency_penalty = 0.3f;
      r.sampling.top_k = 40;
    }
  }
  return requests;
}

inline void expect_invariant(const WeightSource& source, const BackendUnderTest& under_test, const InvarianceSize& size, const json::object& overrides = {}) {
  const auto backend = under_test.make(2);
  const auto rig_of = [&](RigOptions options) {
    options.kv_dtype = under_test.kv_dtype;
    return ModelRig(source, *backend, options, overrides);
  };
  const int32_t vocab = rig_of({}).config().vocab;
  const std::vector<EngineRequest> requests = sixteen_requests(vocab, size);

  RigRun alone;
  {
    ModelRig rig = rig_of({.prefix_cache = false});
    for (const EngineRequest& request : requests) {
      RigRun one = rig.run({request});
      alone.tokens.merge(one.tokens);
      alone.logits.merge(one.logits);
    }
  }
  ASSERT_EQ(alone.tokens.size(), 16u);
  ASSERT_EQ(alone.logits.size(), 16u * static_cast<size_t>(size.output));

  ModelRig batched = rig_of({});
  EXPECT_TRUE(batched.run(requests) == alone) << "batched with 15 others";
  const RigRun cached = batched.run(requests);
  EXPECT_GT(cached.cached_tokens, 16 * (size.prompt_min - 17));
  EXPECT_TRUE(cached == alone) << "from the prefix cache";

  // Room for a third of what the sixteen need at their ends.
  const int32_t blocks = 16 * ((size.prompt_min + size.prompt_max) / 2 + size.output) / limits::kBlockTokens / 3;
  ModelRig crowded = rig_of({.max_num_batched_tokens = 64, .blocks = blocks});
  const RigRun preempted = crowded.run(requests);
  EXPECT_GT(preempted.preemptions, 0u);
  EXPECT_TRUE(preempted == alone) << "preempted and resumed";

  EngineRequest chunked = requests[1];
  chunked.prompt.resize(static_cast<size_t>(size.chunked_prompt), 5);
  chunked.sampling.max_tokens = 3;
  RigRun whole;
  for (int32_t chunk = size.chunked_prompt; chunk >= 1; --chunk) {
    ModelRig rig = rig_of({.max_num_seqs = 1, .max_num_batched_tokens = chunk});
    const RigRun run = rig.run({chunked});
    if (chunk == size.chunked_prompt) whole = run;
    EXPECT_TRUE(run == whole) << "in chunks of " << chunk;
  }

  EngineRequest choices = requests[1];
  choices.sampling.n = 4;
  std::vector<EngineRequest> singles(4, requests[1]);
  for (uint64_t i = 0; i < 4; ++i) *singles[i].sampling.seed += i;
  const RigRun forked = batched.run({choices});
  ASSERT_EQ(forked.tokens.size(), 4u);
  EXPECT_TRUE(forked == batched.run(singles)) << "forked from one prompt";
}

}  // namespace pagemill
