// Sequence: one answer under way, and Request: the one to n sequences that share a prompt and a stream.
//
// A sequence is *waiting* (never started), *running* (holds KV blocks), *preempted* (gave its blocks back, will start over
// from its own tokens) or *ended*. A new and a preempted sequence start in the same way: the positions of its tokens
// that the prefix cache does not hold are computed, and the last one's logits give the next token.
//
// Invariants:
//   1. committed ≤ scheduled ≤ tokens.size() + pending, where committed is the block manager's count for `kv`.
//   2. pending ≤ steps in flight; more than one token only where needs_last_token() is false.
//   3. A row in flight belongs to its sequence only while the epochs agree; preemption and the end move the epoch on.
//   4. Of a request that has not forked only choices[0] is scheduled; the others start when its prompt is done.
// Owned by the engine thread.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "engine/handle.h"
#include "kv/block_manager.h"
#include "sample/sampling_state.h"

namespace pagemill {

struct Request;

enum class SequenceState { waiting, running, preempted, ended };

struct Sequence {
  Request* request = nullptr;
  int32_t choice = 0;
  SequenceState state = SequenceState::waiting;
  uint32_t epoch = 0;

  std::vector<int32_t> tokens;           // prompt and answer as far as known
  int32_t scheduled = 0;                 // positions given to the device since the last start
  int32_t pending = 0;                   // answer tokens that the device has still to say
  int32_t pending_row = -1;              // … in this logit row of the step begun last
  KvSequenceId kv = 0;                   // while running

  std::optional<SamplingState> sampling; // from the step that computes the prompt's last row; none where no answer is wanted
  std::unique_ptr<TokenConstraint> constraint;

  // Admission that failed for want of blocks: not worth trying again before this many are available, or
  // some steps have passed since `wanted_step`.
  int32_t wanted_blocks = 0, wanted_group = 0;
  uint64_t wanted_step = 0;
  Sequence* newer = nullptr;             // neighbours in its tenant's queue while waiting
  Sequence* older = nullptr;

  // Stream: what its reader has not been given yet.
  size_t unsent_from = 0;                // index in `tokens`
  std::vector<TokenLogprob> unsent_logprobs;
  std::optional<ChoiceEndEvent> unsent_end;

  /// Positions that could be computed now.
  int32_t remaining() const { return static_cast<int32_t>(tokens.size()) + pending - scheduled; }
  bool needs_last_token() const { return constraint || (sampling && sampling->needs_last_token()); }
};

struct Request {
  RequestId id = 0;                      // ascending in the order of arrival
  EngineRequest spec;                    // `prompt` has moved to choices[0]
  int32_t prompt_tokens = 0;
  int32_t output_max = 0;                // tokens of each choice's answer
  std::vector<std::unique_ptr<Sequence>> choices;
  int32_t unended_choices = 0;
  bool any_by_length = false;            // a choice ended at max_tokens or the context's end
  bool forked = false;                   // every choice has its own blocks
  bool started = false;                  // has had its first step
  bool left_queue = false;               // admission counts it no longer
  bool ended = false;                    // the End event is in `unsent_end` or delivered
  bool changed = false;                  // is in the outbox's list
  int32_t in_flight = 0;                 // entries of steps under way that point here

  TimeNs arrival_ns = 0, first_scheduled_ns = 0, first_token_ns = 0;
  EngineUsage usage;

  // Results beside tokens.
  int32_t scored = 0;                    // prompt positions whose log-probability is known (position 0 has none)
  PromptLogprobsEvent unsent_scores;
  std::vector<double> embedding_sum;     // [hidden]
  std::optional<EmbeddingEvent> unsent_embedding;
  std::optional<EndEvent> unsent_end;

  bool wants_answer() const { return !spec.pooled_embedding && spec.sampling.max_tokens.value_or(1) > 0; }
  int32_t choices_to_fork() const { return forked ? 0 : static_cast<int32_t>(choices.size()) - 1; }
};

/// The order in which running sequences get blocks, and the reverse of that in which they are preempted.
inline bool goes_before(const Sequence& a, const Sequence& b) {
  if (a.request->spec.priority != b.request->spec.priority) return a.request->spec.priority < b.request->spec.priority;
  if (a.request->id != b.request->id) return a.request->id < b.request->id;
  return a.choice < b.choice;
}

}  // namespace pagemill
