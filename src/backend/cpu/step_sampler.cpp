#include "backend/cpu/step_sampler.h"

#include <algorithm>

#include "base/check.h"
#include "base/limits.h"

namespace pagemill {
namespace {

std::span<const float> logit_row(Matrix logits, size_t row) {
  return {reinterpret_cast<const float*>(logits.data) + row * static_cast<size_t>(logits.cols), static_cast<size_t>(logits.cols)};
}

}  // namespace

void StepSampler::reserve(int32_t logit_rows, int32_t vocab) {
  for (SampleScratch& buffer : scratch_) buffer.reserve(vocab);
  const auto rows = static_cast<size_t>(logit_rows);
  if (sampled_.capacity() >= rows) return;
  sampled_.reserve(rows);
  sampled_logprobs_.resize(rows);
  for (LogprobRow& row : sampled_logprobs_) row.top.reserve(limits::kTopLogprobs);
}

void StepSampler::sample(const StepInputs& step, Matrix logits) {
  const size_t rows = step.sampling.size();
  PM_CHECK(logits.dtype == DType::f32 && logits.rows >= static_cast<int64_t>(rows));
  PM_CHECK(sampled_logprobs_.size() >= rows, "reserve_scratch was not called, or for fewer logit rows");
  sampled_.resize(rows);
  const size_t mask_words = (static_cast<size_t>(logits.cols) + 31) / 32;
  pool_.run("sample", static_cast<int64_t>(rows), [&](int64_t task, int thread) {
    const auto row = static_cast<size_t>(task);
    const SamplingRow& how = step.sampling[row];
    if (how.logprobs < 0) sampled_logprobs_[row].top.clear();  // an earlier step's
    const auto history = step.history.subspan(static_cast<size_t>(how.history_begin), static_cast<size_t>(how.history_end - how.history_begin));
    const auto bias = step.bias.subspan(static_cast<size_t>(how.bias_begin), static_cast<size_t>(how.bias_end - how.bias_begin));
    const auto mask = how.mask < 0 ? std::span<const uint32_t>{} : step.masks.subspan(static_cast<size_t>(how.mask) * mask_words, mask_words);
    const auto in_vocabulary = [&](const auto& entry) { return entry.token >= 0 && entry.token < logits.cols; };
    PM_CHECK(std::all_of(history.begin(), history.end(), in_vocabulary), "a penalty on a token outside of the vocabulary");
    PM_CHECK(std::all_of(bias.begin(), bias.end(), in_vocabulary), "a bias on a token outside of the vocabulary");
    sampled_[row] = sample_row(logit_row(logits, row), how, history, bias, mask, scratch_[static_cast<size_t>(thread)],
                               &sampled_logprobs_[row]);
  });
}

Result<void> StepSampler::finish(std::span<SampledToken> tokens, std::span<LogprobRow> logprobs) const {
  PM_CHECK(tokens.size() == sampled_.size() && (logprobs.empty() || logprobs.size() == sampled_.size()));
  std::copy(sampled_.begin(), sampled_.end(), tokens.begin());
  for (size_t row = 0; row < logprobs.size(); ++row) logprobs[row] = sampled_logprobs_[row];
  return {};
}

Result<void> StepSampler::logprobs(Matrix logits, std::span<const int32_t> targets, int32_t top, std::span<LogprobRow> out) {
  PM_CHECK(logits.dtype == DType::f32 && logits.rows >= static_cast<int64_t>(targets.size()) && out.size() == targets.size());
  pool_.run("logprobs", static_cast<int64_t>(targets.size()), [&](int64_t task, int thread) {
    const auto row = static_cast<size_t>(task);
    logprob_row(logit_row(logits, row), targets[row], top, out[row], scratch_[static_cast<size_t>(thread)]);
  });
  return {};
}

int32_t StepSampler::token_of(const StepInputs& step, size_t row, int64_t vocab) const {
  const int32_t from = step.token_from.empty() ? -1 : step.token_from[row];
  PM_CHECK(from < static_cast<int32_t>(sampled_.size()), "row {} of {} sampled tokens", from, sampled_.size());
  int32_t token = from < 0 ? step.tokens[row] : sampled_[static_cast<size_t>(from)].token;
  if (from >= 0 && token < 0) token = 0;  // nothing was allowed: the sequence has ended, and this row is dropped
  PM_CHECK(token >= 0 && token < vocab, "token {} of a vocabulary of {}", token, vocab);
  return token;
}

}  // namespace pagemill
