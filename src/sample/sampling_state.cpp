#include "sample/sampling_state.h"

#include <algorithm>
#include <bit>
#include <limits>

#include "base/check.h"

namespace pagemill {
namespace {

constexpr size_t kReservedOutput = 4'096;  // tokens of the answer
constexpr BiasEntry forbid(int32_t token) { return {token, -std::numeric_limits<float>::infinity()}; }

void sort_unique(std::vector<int32_t>& tokens) {
  std::sort(tokens.begin(), tokens.end());
  tokens.erase(std::unique(tokens.begin(), tokens.end()), tokens.end());
}

/// Where to start looking for a token in a table of a power of two (Fibonacci hashing).
size_t slot_of(int32_t token, size_t slots) { return (static_cast<uint32_t>(token) * 2654435769u >> 7) & (slots - 1); }

}  // namespace

SamplingState::SamplingState(const SamplingParams& params, std::span<const int32_t> prompt,
                             std::span<const int32_t> model_stop_tokens, int32_t output_max, uint64_t seed)
    : params_(std::make_shared<const SamplingParams>(params)), seed_(seed), prompt_tokens_(static_cast<int32_t>(prompt.size())),
      output_max_(output_max) {
  PM_CHECK(output_max >= 1, "output_max {}", output_max);
  stop_tokens_ = params_->stop_token_ids;
  if (!params_->ignore_eos) stop_tokens_.insert(stop_tokens_.end(), model_stop_tokens.begin(), model_stop_tokens.end());
  sort_unique(stop_tokens_);
  held_back_tokens_ = stop_tokens_;
  held_back_tokens_.insert(held_back_tokens_.end(), model_stop_tokens.begin(), model_stop_tokens.end());
  sort_unique(held_back_tokens_);

  for (const auto& word : params_->bad_words) longest_bad_word_ = std::max(longest_bad_word_, word.size());
  if (longest_bad_word_ > 1) recent_.reserve(longest_bad_word_ - 1);
  bias_.reserve(params_->logit_bias.size() + held_back_tokens_.size() + params_->bad_words.size());
  for (const auto& [token, bias] : params_->logit_bias) bias_.push_back({token, bias});

  const bool repetition = params_->repetition_penalty != 1;
  penalised_ = repetition || params_->presence_penalty != 0 || params_->frequency_penalty != 0;
  if (!penalised_) return;
  const size_t reserved = (repetition ? prompt.size() : 0) + std::min(static_cast<size_t>(output_max), kReservedOutput);
  history_.reserve(reserved);
  index_.resize(std::bit_ceil(2 * reserved));
  if (repetition) {
    for (const int32_t token : prompt) count(token, false);
  }
}

SamplingState SamplingState::for_choice(uint64_t seed) const {
  PM_CHECK(output_tokens_ == 0, "a choice starts from one that has said {} tokens", output_tokens_);
  SamplingState state = *this;
  state.seed_ = seed;
  state.recent_.reserve(recent_.capacity());  // a copy has room for what is there and no more
  state.history_.reserve(history_.capacity());
  state.bias_.reserve(bias_.capacity());
  return state;
}

SamplingRow SamplingState::row(int32_t in_flight) const {
  SamplingRow row;
  row.temperature = params_->temperature;
  row.top_p = params_->top_p;
  row.min_p = params_->min_p;
  row.typical_p = params_->typical_p;
  row.top_k = params_->top_k;
  row.repetition_penalty = params_->repetition_penalty;
  row.presence_penalty = params_->presence_penalty;
  row.frequency_penalty = params_->frequency_penalty;
  row.seed = seed_;
  row.position = static_cast<uint64_t>(prompt_tokens_) + static_cast<uint64_t>(output_tokens_ + in_flight);
  row.logprobs = params_->logprobs;
  return row;
}

std::span<const BiasEntry> SamplingState::bias(int32_t in_flight) {
  bias_.resize(params_->logit_bias.size());
  if (output_tokens_ + in_flight < params_->min_tokens) {
    for (const int32_t token : held_back_tokens_) bias_.push_back(forbid(token));
  }
  for (const auto& word : params_->bad_words) {
    if (completes_bad_word(word)) bias_.push_back(forbid(word.back()));
  }
  return bias_;
}

bool SamplingState::completes_bad_word(std::span<const int32_t> word) const {
  const size_t prefix = word.size() - 1;
  return prefix <= recent_.size() && std::equal(word.begin(), word.end() - 1, recent_.end() - static_cast<ptrdiff_t>(prefix));
}

SamplingState::Verdict SamplingState::accept(int32_t token) {
  ++output_tokens_;
  if (is_stop_token(token)) return Verdict::stop_token;
  if (penalised_) count(token, true);
  if (longest_bad_word_ > 1) {
    if (recent_.size() == longest_bad_word_ - 1) recent_.erase(recent_.begin());
    recent_.push_back(token);
  }
  return output_tokens_ >= output_max_ ? Verdict::length : Verdict::go_on;
}

bool SamplingState::is_stop_token(int32_t token) const {
  return std::binary_search(stop_tokens_.begin(), stop_tokens_.end(), token);
}

void SamplingState::count(int32_t token, bool is_output) {
  if (2 * (history_.size() + 1) > index_.size()) grow_index();
  size_t slot = slot_of(token, index_.size());
  while (index_[slot] != 0 && history_[static_cast<size_t>(index_[slot] - 1)].token != token) slot = (slot + 1) & (index_.size() - 1);
  if (index_[slot] == 0) {
    history_.push_back({token, 0});
    index_[slot] = static_cast<int32_t>(history_.size());
  }
  if (is_output) ++history_[static_cast<size_t>(index_[slot] - 1)].output_count;
}

void SamplingState::grow_index() {
  index_.assign(2 * index_.size(), 0);
  for (size_t i = 0; i < history_.size(); ++i) {
    size_t slot = slot_of(history_[i].token, index_.size());
    while (index_[slot] != 0) slot = (slot + 1) & (index_.size() - 1);
    index_[slot] = static_cast<int32_t>(i + 1);
  }
}

uint64_t choice_seed(const SamplingParams& params, int32_t choice, uint64_t fresh) {
  return params.seed.value_or(fresh) + static_cast<uint64_t>(choice);
}

}  // namespace pagemill
