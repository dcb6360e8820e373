// StepRunner: the seam between the engine's bookkeeping and what computes. The model behind a backend implements it
// (model_runner.h); the simulation puts a fake device with virtual time behind it.
//
// Steps overlap: begin() hands a step over and returns a ticket, finish() waits for the oldest ticket and gives its tokens.
// At most two tickets are in flight. The token ids of one step feed the next on the device (StepInputs::token_from).
#pragma once

#include <cstdint>
#include <span>

#include "backend/backend.h"
#include "kv/block_manager.h"

namespace pagemill {

using Ticket = uint64_t;

/// What one step computed, valid until the next finish().
struct StepResult {
  std::span<const SampledToken> tokens;      // [logit_rows] in the step's order
  std::span<const LogprobRow> logprobs;      // [logit_rows]; empty rows where not asked for
  int64_t duration_ns = 0;                   // on the device
};

/// Extra results of a step beside sampled tokens.
struct StepExtras {
  /// Rows whose token's log-probability is wanted given the logits of the row before (prompt log-probabilities).
  struct PromptLogprobs {
    int32_t row = 0;                         // logits of this row …
    int32_t target = 0;                      // … score this token
    int32_t top = 0;
  };
  std::span<const PromptLogprobs> prompt_logprobs;
  /// Sequences (indices in the step) whose rows' hidden states are summed into their embedding.
  std::span<const int32_t> embed_seqs;
};

/// Used by the engine thread alone.
class StepRunner {
 public:
  virtual ~StepRunner() = default;
  /// Starts the step. `inputs` and `copies` must stay valid until its finish().
  virtual Result<Ticket> begin(const StepInputs& inputs, std::span<const KvCopy> copies, const StepExtras& extras) = 0;
  /// Waits for the oldest ticket. An error means that the device or the model's file failed for good.
  virtual Result<StepResult> finish(Ticket ticket) = 0;
  /// Of the step finished last, in the order they were asked for.
  virtual std::span<const LogprobRow> prompt_logprobs() const = 0;
  virtual std::span<const float> embedding_sums() const = 0;  // [embed_seqs, hidden]
  /// 1 where begin() runs the step to its end (the CPU), 2 where steps overlap.
  virtual int tickets_max() const = 0;
};

}  // namespace pagemill
