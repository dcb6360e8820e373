#include "engine/model_runner.h"

#include <algorithm>

#include "base/check.h"

namespace pagemill {

ModelRunner::ModelRunner(std::unique_ptr<Model> model, std::unique_ptr<KvPool> kv, Backend& backend, const WeightSource& source,
                         const StepShape& largest, const Clock& clock)
    : model_(std::move(model)), kv_(std::move(kv)), backend_(backend), source_(source), largest_(largest), clock_(clock) {
  copies_.reserve(static_cast<size_t>(largest.logit_rows));
  tokens_.resize(static_cast<size_t>(largest.logit_rows));
  logprobs_.resize(static_cast<size_t>(largest.logit_rows));
}

Result<Ticket> ModelRunner::begin(const StepInputs& inputs, std::span<const KvCopy> copies, const StepExtras& extras) {
  begun_ns_ = clock_.now_ns();
  PM_ASSIGN(const StepInputs* step, backend_.begin_step(inputs));
  const KvView kv{kv_.get()};
  copies_.clear();
  for (const KvCopy& copy : copies) copies_.push_back({copy.group, copy.from, copy.to});
  if (!copies_.empty()) backend_.copy_blocks(kv, copies_);

  model_->forward(*step, kv, backend_, communicator_);
  PM_TRY(sample(*step));
  PM_TRY(score(*step, extras));
  pools_ = extras.pools;
  row_begin_ = step->row_begin;
  return ++last_ticket_;
}

Result<void> ModelRunner::sample(const StepInputs& step) {
  sampled_rows_ = step.sampling.size();
  wants_logprobs_ = std::any_of(step.sampling.begin(), step.sampling.end(), [](const SamplingRow& row) { return row.logprobs >= 0; });
  if (sampled_rows_ == 0) return {};
  backend_.sample(step, model_->lm_head(step, step.logit_rows, backend_, communicator_));
  const std::span logprobs = wants_logprobs_ ? std::span(logprobs_).first(sampled_rows_) : std::span<LogprobRow>{};
  return backend_.finish_sample(std::span(tokens_).first(sampled_rows_), logprobs);
}

/// Prompt log-probabilities, as many rows at a time as the logits' buffer holds.
Result<void> ModelRunner::score(const StepInputs& step, const StepExtras& extras) {
  scores_.resize(step.score_rows.size());
  const auto chunk = static_cast<size_t>(largest_.logit_rows);
  for (size_t first = 0; first < scores_.size(); first += chunk) {
    const size_t count = std::min(chunk, scores_.size() - first);
    const Matrix logits = model_->lm_head(step, step.score_rows.subspan(first, count), backend_, communicator_);
    PM_TRY(backend_.logprobs(logits, extras.score_targets.subspan(first, count), extras.score_top, std::span(scores_).subspan(first, count)));
  }
  return {};
}

/// In finish(): the engine clears the sums of a prompt that starts (over) between begin() and finish().
Result<void> ModelRunner::pool_rows() {
  for (const StepExtras::Pool& pool : pools_) {
    const Matrix all = model_->hidden_states();
    const auto seq = static_cast<size_t>(pool.seq);
    const int64_t first = row_begin_[seq], rows = row_begin_[seq + 1] - first;
    const Matrix own{all.data + first * row_bytes(all.dtype, all.cols), all.dtype, rows, all.cols};
    hidden_.resize(static_cast<size_t>(rows * all.cols));
    PM_TRY(backend_.read(own, hidden_));
    for (int64_t row = 0; row < rows; ++row) {
      for (size_t i = 0; i < pool.sum.size(); ++i) pool.sum[i] += hidden_[static_cast<size_t>(row * all.cols) + i];
    }
  }
  return {};
}

Result<StepResult> ModelRunner::finish(Ticket ticket) {
  PM_CHECK(ticket == last_ticket_, "ticket {} is not the one in flight ({})", ticket, last_ticket_);
  PM_TRY(backend_.status());
  PM_TRY(source_.check_intact());
  PM_TRY(pool_rows());
  return StepResult{.tokens = std::span(tokens_).first(sampled_rows_),
                    .logprobs = wants_logprobs_ ? std::span(logprobs_).first(sampled_rows_) : std::span<LogprobRow>{},
                    .scores = scores_,
                    .duration_ns = clock_.now_ns() - begun_ns_};
}

}  // namespace pagemill
