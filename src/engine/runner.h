// StepRunner: the seam between the engine's bookkeeping and what computes. The model behind a backend implements it
// (model_runner.h); the simulation puts a fake device with virtual time behind it.
//
// Steps overlap: begin() hands a step over and returns a ticket, finish() waits for the oldest ticket and gives its tokens.
// Invariants: at most two tickets are in flight; they are finished in the order in which they were begun.
// The token ids of one step feed the next on the device (StepInputs::token_from).
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
  std::span<const LogprobRow> scores;        // [score_rows]
  int64_t duration_ns = 0;                   // on the device
};

/// Extra results of a step beside sampled tokens.
struct StepExtras {
  /// Log-probabilities of given tokens: the logits of row StepInputs::score_rows[i] score the token targets[i]
  /// (prompt log-probabilities), with the `score_top` best beside it.
  std::span<const int32_t> score_targets;
  int32_t score_top = 0;
  /// finish() adds the normed hidden states of a sequence's rows to `sum`, row after row: the order, and so the value, does
  /// not depend on how a prompt was cut into steps.
  struct Pool {
    int32_t seq = 0;                         // index in the step
    std::span<double> sum;                   // [hidden]
  };
  std::span<const Pool> pools;
};

/// Used by the engine thread alone.
class StepRunner {
 public:
  virtual ~StepRunner() = default;
  /// Starts the step. Everything given must stay valid until its finish().
  virtual Result<Ticket> begin(const StepInputs& inputs, std::span<const KvCopy> copies, const StepExtras& extras) = 0;
  /// Waits for the oldest ticket. An error means that the device or the model's file failed for good.
  virtual Result<StepResult> finish(Ticket ticket) = 0;
  /// 1 where begin() runs the step to its end (the CPU), 2 where steps overlap.
  virtual int tickets_max() const = 0;
};

}  // namespace pagemill
