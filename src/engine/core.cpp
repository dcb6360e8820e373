#include "engine/core.h"

#include <algorithm>
#include <cmath>
#include <functional>

#include "base/check.h"
#include "base/rng.h"

namespace pagemill {

namespace {

BlockManagerConfig sized(BlockManagerConfig blocks, const EngineModelInfo& model) {
  if (blocks.sequence_tokens_max == 0) blocks.sequence_tokens_max = model.context_max;
  return blocks;
}

/// Why no token could be chosen.
Error no_token(Sequence& sequence) {
  if (sequence.constraint) return {ErrorCode::invalid_argument, "The constraint on this answer leaves no token that could come next.", {}};
  if (!sequence.sampling->bias().empty()) {
    return {ErrorCode::invalid_argument, "logit_bias, min_tokens and bad_words together leave no token that could come next.", {}};
  }
  return {ErrorCode::internal, "The model's logits are not numbers.", {}};
}

}  // namespace

EngineCore::EngineCore(CoreConfig config, Admission& admission, StepRunner& runner, const Clock& clock)
    : config_(std::move(config)), admission_(admission), runner_(runner), clock_(clock),
      blocks_(sized(config_.blocks, admission.config().model)), scheduler_(config_.scheduler, blocks_),
      outbox_(static_cast<size_t>(config_.scheduler.max_num_seqs) * 2) {
  const EngineModelInfo& model = admission.config().model;
  const int32_t blocks_per_seq = (model.context_max + limits::kBlockTokens - 1) / limits::kBlockTokens;
  const auto seqs = static_cast<size_t>(config_.scheduler.max_num_seqs);
  for (int i = 0; i < runner.tickets_max(); ++i) {
    flights_[static_cast<size_t>(i)].arena = std::make_unique<StepArena>(
        config_.scheduler.max_num_batched_tokens, config_.scheduler.max_num_seqs, blocks_per_seq, blocks_.groups(), model.vocab);
    flights_[static_cast<size_t>(i)].plan.entries.reserve(seqs);
    flights_[static_cast<size_t>(i)].plan.copies.reserve(seqs * static_cast<size_t>(blocks_.groups()));
  }
}

EngineCore::~EngineCore() = default;

void EngineCore::submit(RequestId id, EngineRequest spec, TimeNs arrival_ns) {
  auto owned = std::make_unique<Request>();
  Request& request = *owned;
  request.id = id;
  request.spec = std::move(spec);
  request.arrival_ns = arrival_ns;
  request.prompt_tokens = static_cast<int32_t>(request.spec.prompt.size());
  request.usage.prompt_tokens = request.prompt_tokens;
  if (request.spec.pooled_embedding) request.embedding_sum.assign(static_cast<size_t>(config_.hidden), 0.0);

  const EngineModelInfo& model = admission_.config().model;
  const SamplingParams& params = request.spec.sampling;
  request.output_max = std::min(params.max_tokens.value_or(INT32_MAX), model.context_max - request.prompt_tokens);
  const int32_t choices = request.wants_answer() ? params.n : 1;
  request.unended_choices = choices;
  for (int32_t i = 0; i < choices; ++i) {
    auto& choice = *request.choices.emplace_back(std::make_unique<Sequence>());
    choice.request = &request;
    choice.choice = i;
  }
  request.forked = choices == 1;
  Sequence& first = *request.choices[0];
  first.tokens = std::move(request.spec.prompt);
  first.unsent_from = first.tokens.size();

  requests_.emplace(id, std::move(owned));
  if (request.spec.deadline_ns != 0) {
    deadlines_.emplace_back(request.spec.deadline_ns, id);
    std::push_heap(deadlines_.begin(), deadlines_.end(), std::greater<>());
    if (deadlines_.size() > 2 * requests_.size() + 64) {
      std::erase_if(deadlines_, [&](const auto& each) { return !requests_.contains(each.second); });
      std::make_heap(deadlines_.begin(), deadlines_.end(), std::greater<>());
    }
  }
  scheduler_.add(first);
  if (failed_) end_request(request, FinishReason::error, failure_);
}

/// When its prompt's last row is about to run, not before: what waits in the queue holds no more than its prompt.
void EngineCore::prepare_sampling(Request& request) {
  Sequence& first = *request.choices[0];
  if (first.sampling) return;
  const SamplingParams& params = request.spec.sampling;
  const uint64_t fresh_seed = SplitMix64(config_.seed ^ request.id * 0x9E3779B97F4A7C15)();
  first.sampling.emplace(params, first.tokens, admission_.config().model.stop_tokens,
                         request.output_max, choice_seed(params, 0, fresh_seed));
  for (const auto& choice : request.choices) {
    if (choice.get() != &first) choice->sampling = first.sampling->for_choice(choice_seed(params, choice->choice, fresh_seed));
    if (request.spec.constraint) choice->constraint = request.spec.constraint->clone();
  }
}

void EngineCore::cancel(RequestId id) {
  const auto found = requests_.find(id);
  if (found != requests_.end() && !found->second->ended) end_request(*found->second, FinishReason::cancelled);
}

void EngineCore::end_choice(RequestId id, int32_t choice) {
  const auto found = requests_.find(id);
  if (found == requests_.end() || found->second->ended) return;
  const Request& request = *found->second;
  if (choice < 0 || static_cast<size_t>(choice) >= request.choices.size()) return;
  Sequence& sequence = *request.choices[static_cast<size_t>(choice)];
  if (!sequence.sampling || sequence.sampling->output_tokens() == 0) return;  // it has said nothing yet
  if (sequence.state != SequenceState::ended) end_choice(sequence, FinishReason::stop, -1);
}

bool EngineCore::step() {
  expire_deadlines();
  if (!failed_) {
    while (in_flight_ < runner_.tickets_max() && begin_step()) {
    }
    if (in_flight_ > 0) finish_step();
  }
  deliver();
  return !failed_ && !idle();
}

void EngineCore::expire_deadlines() {
  const TimeNs now = clock_.now_ns();
  while (!deadlines_.empty() && deadlines_.front().first <= now) {
    const auto found = requests_.find(deadlines_.front().second);
    if (found != requests_.end() && !found->second->ended) end_request(*found->second, FinishReason::deadline);
    std::pop_heap(deadlines_.begin(), deadlines_.end(), std::greater<>());
    deadlines_.pop_back();
  }
  if (drain_deadline_ns_ == 0 || now < drain_deadline_ns_) return;
  for (auto& [id, request] : requests_) {
    if (!request->ended) end_request(*request, FinishReason::cancelled);
  }
}

bool EngineCore::begin_step() {
  Flight& flight = flights_[next_flight_];
  if (!scheduler_.schedule(flight.plan, clock_.now_ns())) return false;
  for (const PlanEntry& entry : flight.plan.entries) {
    leave_queue(*entry.sequence->request);
    if (entry.logit_rows > 0) prepare_sampling(*entry.sequence->request);
  }
  flight.arena->build(flight.plan, blocks_);
  if (in_flight_ == 0) last_finish_ns_ = clock_.now_ns();
  Result<Ticket> ticket = runner_.begin(flight.arena->inputs(), flight.plan.copies, flight.arena->extras());
  if (!ticket) {
    for (const PlanEntry& entry : flight.plan.entries) --entry.sequence->request->in_flight;
    fail_all(ticket.error());
    return false;
  }
  flight.ticket = *ticket;
  ++in_flight_;
  next_flight_ = (next_flight_ + 1) % static_cast<size_t>(runner_.tickets_max());
  for (auto& [request, error] : flight.arena->failures()) {
    if (!request->ended) end_request(*request, FinishReason::error, std::move(error));
  }
  return true;
}

void EngineCore::finish_step() {
  const auto tickets = static_cast<size_t>(runner_.tickets_max());
  Flight& flight = flights_[(next_flight_ + tickets - static_cast<size_t>(in_flight_)) % tickets];
  for (const PlanEntry& entry : flight.plan.entries) {
    // An embedding that starts (over): what steps of before a preemption added does not count.
    if (entry.first == 0) std::fill(entry.sequence->request->embedding_sum.begin(), entry.sequence->request->embedding_sum.end(), 0.0);
  }
  Result<StepResult> result = runner_.finish(flight.ticket);
  --in_flight_;
  if (!result) {
    abandon(flight);
    while (in_flight_ > 0) {  // what a failed device says of the steps behind does not matter
      Flight& next = flights_[(next_flight_ + tickets - static_cast<size_t>(in_flight_)) % tickets];
      (void)runner_.finish(next.ticket);
      --in_flight_;
      abandon(next);
    }
    fail_all(result.error());
    return;
  }
  const TimeNs now = clock_.now_ns();
  scheduler_.observe(flight.plan, result->duration_ns > 0 ? result->duration_ns : now - last_finish_ns_);
  last_finish_ns_ = now;
  ++counters_.steps;
  postprocess(flight.plan, *result);
}

/// Nobody will get what this step computes.
void EngineCore::abandon(const Flight& flight) {
  for (const PlanEntry& entry : flight.plan.entries) --entry.sequence->request->in_flight;
}

void EngineCore::postprocess(const StepPlan& plan, const StepResult& result) {
  for (const PlanEntry& entry : plan.entries) {
    Sequence& sequence = *entry.sequence;
    Request& request = *sequence.request;
    --request.in_flight;
    if (entry.epoch != sequence.epoch) {  // preempted or ended meanwhile: the rows belong to nobody
      collect(request);
      continue;
    }
    scheduler_.computed(entry);
    counters_.prompt_tokens += static_cast<uint64_t>(std::clamp(request.prompt_tokens - entry.first, 0, entry.count));
    take_scores(entry, result.scores);
    if (entry.logit_rows > 0) {
      take_tokens(entry, result);
    } else if (!request.wants_answer() && entry.first + entry.count == request.prompt_tokens) {
      finish_prompt_only(request);
    }
  }
}

void EngineCore::take_scores(const PlanEntry& entry, std::span<const LogprobRow> scores) {
  if (entry.score_rows == 0) return;
  Request& request = *entry.sequence->request;
  for (int32_t i = 0; i < entry.score_rows; ++i) {
    const LogprobRow& row = scores[static_cast<size_t>(entry.score_begin + i)];
    TokenLogprob logprob{.token = entry.sequence->tokens[static_cast<size_t>(entry.score_first + i + 1)], .logprob = row.chosen, .rank = row.rank, .top = row.top};
    logprob.top.resize(std::min(row.top.size(), static_cast<size_t>(request.spec.sampling.prompt_logprobs)));
    request.unsent_scores.logprobs.push_back(std::move(logprob));
  }
  request.scored = entry.score_first + entry.score_rows;
  outbox_.mark(request);
}

void EngineCore::take_tokens(const PlanEntry& entry, const StepResult& result) {
  Sequence& sequence = *entry.sequence;
  Request& request = *sequence.request;
  --sequence.pending;
  if (entry.logit_rows > 1) scheduler_.fork(request);
  if (request.first_token_ns == 0) request.first_token_ns = clock_.now_ns();
  for (int32_t i = 0; i < entry.logit_rows && !request.ended; ++i) {
    const auto row = static_cast<size_t>(entry.logit_begin + i);
    Sequence& choice = entry.logit_rows > 1 ? *request.choices[static_cast<size_t>(i)] : sequence;
    take_token(choice, result.tokens[row], choice.sampling->logprobs() >= 0 ? &result.logprobs[row] : nullptr);
  }
}

void EngineCore::take_token(Sequence& sequence, const SampledToken& sampled, const LogprobRow* logprobs) {
  Request& request = *sequence.request;
  if (sampled.token < 0) {
    return end_request(request, FinishReason::error, no_token(sequence));
  }
  const SamplingState::Verdict verdict = sequence.sampling->accept(sampled.token);
  ++request.usage.output_tokens;
  ++counters_.output_tokens;
  scheduler_.queue().charge_output(request.spec.tenant);
  if (verdict == SamplingState::Verdict::stop_token) return end_choice(sequence, FinishReason::stop, sampled.token);
  if (sequence.constraint) {
    if (auto accepted = sequence.constraint->accept(sampled.token); !accepted) {
      return end_request(request, FinishReason::error, std::move(accepted).error());
    }
  }
  sequence.tokens.push_back(sampled.token);
  if (logprobs) {
    sequence.unsent_logprobs.push_back({.token = sampled.token, .logprob = sampled.logprob, .rank = sampled.rank, .top = logprobs->top});
  }
  outbox_.mark(request);
  if (verdict == SamplingState::Verdict::length) end_choice(sequence, FinishReason::length, -1);
}

/// A prompt whose answer nobody wants: scored, or pooled into an embedding.
void EngineCore::finish_prompt_only(Request& request) {
  if (request.spec.pooled_embedding) {
    double squares = 0;
    for (const double value : request.embedding_sum) squares += value * value;
    const double scale = squares > 0 ? 1 / std::sqrt(squares) : 0;  // the mean's 1/n cancels out
    EmbeddingEvent event;
    for (const double value : request.embedding_sum) event.values.push_back(static_cast<float>(value * scale));
    request.unsent_embedding = std::move(event);
  }
  end_choice(*request.choices[0], request.spec.pooled_embedding ? FinishReason::stop : FinishReason::length, -1);
}

void EngineCore::end_choice(Sequence& sequence, FinishReason reason, int32_t stop_token) {
  Request& request = *sequence.request;
  scheduler_.end(sequence);
  sequence.unsent_end = ChoiceEndEvent{.choice = sequence.choice, .reason = reason, .stop_token = stop_token};
  request.any_by_length |= reason == FinishReason::length;
  outbox_.mark(request);
  if (--request.unended_choices == 0) end_request(request, request.any_by_length ? FinishReason::length : FinishReason::stop);
}

void EngineCore::end_request(Request& request, FinishReason reason, Error error) {
  PM_CHECK(!request.ended, "request {} ends twice", request.id);
  request.ended = true;
  leave_queue(request);
  for (const auto& choice : request.choices) scheduler_.end(*choice);
  const TimeNs now = clock_.now_ns();
  if (request.started) {
    const TimeNs prefilled = request.first_token_ns != 0 ? request.first_token_ns : now;
    request.usage.prefill_ns = prefilled - request.first_scheduled_ns;
    request.usage.decode_ns = now - prefilled;
  }
  switch (reason) {
    case FinishReason::stop: ++counters_.finished_stop; break;
    case FinishReason::length: ++counters_.finished_length; break;
    case FinishReason::cancelled: ++counters_.finished_cancelled; break;
    case FinishReason::deadline: case FinishReason::error: ++counters_.finished_error; break;
  }
  request.unsent_end = EndEvent{.reason = reason, .error = std::move(error), .usage = request.usage};
  outbox_.mark(request);
}

/// Once per request, at its first step or where it ends without one.
void EngineCore::leave_queue(Request& request) {
  if (request.left_queue) return;
  request.left_queue = true;
  request.usage.queued_ns = (request.started ? request.first_scheduled_ns : clock_.now_ns()) - request.arrival_ns;
  admission_.leave(request.prompt_tokens, static_cast<int32_t>(request.choices.size()));
}

void EngineCore::fail_all(const Error& error) {
  failed_ = true;
  failure_ = error;
  for (auto& [id, request] : requests_) {
    if (!request->ended) end_request(*request, FinishReason::error, error);
  }
}

void EngineCore::deliver() {
  outbox_.flush([this](Request& request) { collect(request); },
                [this](Request& request) {
                  if (!request.ended && Outbox::waiting_bytes(request) > limits::kStreamBufferBytes) {
                    end_request(request, FinishReason::cancelled);
                  }
                });
}

/// Frees a request that is over in every respect.
void EngineCore::collect(Request& request) {
  if (!request.ended || request.changed || request.in_flight > 0) return;
  requests_.erase(request.id);
}

void EngineCore::shut_down() {
  while (in_flight_ > 0 && !failed_) finish_step();
  for (auto& [id, request] : requests_) {
    if (!request->ended) {
      end_request(*request, FinishReason::error, {ErrorCode::unavailable, "The server is shutting down.", {}});
    }
  }
  outbox_.flush_last();
  requests_.clear();
}

}  // namespace pagemill
