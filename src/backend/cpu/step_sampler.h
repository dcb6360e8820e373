// StepSampler: the choice of a step's tokens on the CPU, and what the next step finds of it. Both CPU backends hold one.
//
// Threads: the backend's. After reserve() nothing allocates.
#pragma once

#include <span>
#include <vector>

#include "backend/backend.h"
#include "backend/cpu/compute_pool.h"
#include "backend/cpu/sample.h"

namespace pagemill {

class StepSampler {
 public:
  /// `pool` outlives it.
  explicit StepSampler(ComputePool& pool) : pool_(pool), scratch_(static_cast<size_t>(pool.threads())) {}
  /// For steps of up to so many logit rows. May be called again for more.
  void reserve(int32_t logit_rows, int32_t vocab);

  /// As Backend::sample, finish_sample and logprobs.
  void sample(const StepInputs& step, Matrix logits);
  Result<void> finish(std::span<SampledToken> tokens, std::span<LogprobRow> logprobs) const;
  Result<void> logprobs(Matrix logits, std::span<const int32_t> targets, int32_t top, std::span<LogprobRow> out);

  /// The token that row `row` of a step is computed for, of a vocabulary of `vocab`: the step's own, or one of the last sample().
  int32_t token_of(const StepInputs& step, size_t row, int64_t vocab) const;

 private:
  ComputePool& pool_;
  std::vector<SampleScratch> scratch_;        // [threads]
  std::vector<SampledToken> sampled_;         // [logit_rows] of the last sample()
  std::vector<LogprobRow> sampled_logprobs_;  // [logit_rows]
};

}  // namespace pagemill
