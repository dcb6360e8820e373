// SamplingState: what one sequence's sampling depends on beside its logits, kept up to date token by token, and when its
// answer ends. The engine asks it for the row of each step and tells it each token that came back.
//
// Use, per step:   row = state.row(in_flight); copy state.history() and state.bias(in_flight) into the step; after the step
//   switch (state.accept(token)) …
// `in_flight` counts tokens of this sequence that are scheduled but not yet accepted: 0 unless steps overlap. Penalties and
// bad words depend on the tokens themselves: where needs_last_token() is true, a sequence may not be scheduled ahead.
//
// Memory: entries for the prompt and the first 4096 tokens of the answer are reserved at construction; accept() and row()
// allocate nothing until an answer exceeds that (then rarely, by doubling). Not thread-safe; the engine's thread owns it.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "backend/step.h"
#include "sample/params.h"

namespace pagemill {

class SamplingState {
 public:
  enum class Verdict {
    go_on,
    stop_token,  // the token ends the answer and is not part of it
    length,      // the token is the last one allowed; it is part of the answer
  };

  /// `params` is validated. `prompt` is read here only. `model_stop_tokens` end the answer unless ignore_eos.
  /// `output_max` is what max_tokens and the context leave, at least 1. `seed` is choice_seed()'s.
  SamplingState(const SamplingParams& params, std::span<const int32_t> prompt, std::span<const int32_t> model_stop_tokens,
                int32_t output_max, uint64_t seed);
  /// Another choice's state, from one that has accepted nothing yet: the params are shared, the prompt is not counted again.
  SamplingState for_choice(uint64_t seed) const;

  /// The sampling row of the next token, all but its ranges in the step's arrays and its mask.
  SamplingRow row(int32_t in_flight = 0) const;
  /// Each token that a penalty applies to, once; empty where there is no penalty. Valid until the next accept().
  std::span<const HistoryEntry> history() const { return history_; }
  /// logit_bias, and -infinity for stop tokens before min_tokens and for tokens that would complete a bad word.
  /// Valid until the next call.
  std::span<const BiasEntry> bias(int32_t in_flight = 0);

  /// Takes the next token of the answer.
  Verdict accept(int32_t token);

  bool needs_last_token() const { return penalised_ || longest_bad_word_ > 1; }
  /// Accepted so far, a stop token included.
  int32_t output_tokens() const { return output_tokens_; }
  int32_t output_max() const { return output_max_; }
  bool is_stop_token(int32_t token) const;
  int32_t logprobs() const { return params_->logprobs; }

 private:
  void count(int32_t token, bool is_output);
  void grow_index();
  bool completes_bad_word(std::span<const int32_t> word) const;

  std::shared_ptr<const SamplingParams> params_;
  std::vector<int32_t> stop_tokens_;       // that end the answer, ascending
  std::vector<int32_t> held_back_tokens_;  // impossible before min_tokens: these and the model's, even with ignore_eos
  uint64_t seed_ = 0;
  int32_t prompt_tokens_ = 0;
  int32_t output_tokens_ = 0;
  int32_t output_max_ = 0;
  bool penalised_ = false;
  std::vector<HistoryEntry> history_;
  std::vector<int32_t> index_;             // open addressing: place in history_ + 1, 0 = free; a power of two
  size_t longest_bad_word_ = 0;            // tokens
  std::vector<int32_t> recent_;            // the last longest_bad_word_ - 1 tokens of the answer, oldest first
  std::vector<BiasEntry> bias_;            // the params' own, then those of the next token
};

/// The seed of a choice: the request's, or `fresh` where it has none, plus the choice's index (as in vLLM).
uint64_t choice_seed(const SamplingParams& params, int32_t choice, uint64_t fresh);

}  // namespace pagemill
