#include "simulation/client.h"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

namespace pagemill::simulation {

namespace {

/// Even tokens only; the stop token is even.
class EvenTokens final : public TokenConstraint {
 public:
  Result<void> fill_mask(std::span<uint32_t> mask) override {
    std::fill(mask.begin(), mask.end(), 0x55555555u);
    return {};
  }
  Result<void> accept(int32_t token) override {
    ++accepted_;
    return token % 2 == 0 ? Result<void>{} : fail(ErrorCode::internal, "an odd token was chosen");
  }
  void rollback(int32_t count) override { accepted_ -= count; }
  bool may_end() const override { return true; }
  std::unique_ptr<TokenConstraint> clone() const override { return std::make_unique<EvenTokens>(*this); }

 private:
  int32_t accepted_ = 0;
};

int32_t log_uniform(SplitMix64& random, int32_t max) {
  return std::clamp(static_cast<int32_t>(std::exp(random.uniform() * std::log(max + 1.0))), 1, max);
}

std::vector<int32_t> random_prompt(SplitMix64& random, int32_t vocab) {
  const int32_t length = log_uniform(random, kLengthMax);
  std::vector<int32_t> tokens;
  if (random.below(5) < 2) {  // begins like others
    const uint64_t family = random.below(4);
    const auto shared = static_cast<int32_t>(random.below(static_cast<uint64_t>(length) + 1));
    SplitMix64 of_family(family);
    for (int32_t i = 0; i < shared; ++i) tokens.push_back(static_cast<int32_t>(of_family.below(static_cast<uint64_t>(vocab))));
  }
  while (static_cast<int32_t>(tokens.size()) < length) tokens.push_back(static_cast<int32_t>(random.below(static_cast<uint64_t>(vocab))));
  return tokens;
}

}  // namespace

ClientPlan random_request(SplitMix64& random, const FakeModel& model, int32_t choices_max, int32_t tenants, int32_t priorities) {
  const auto chance = [&](uint64_t percent) { return random.below(100) < percent; };
  ClientPlan plan;
  EngineRequest& r = plan.request;
  r.prompt = random_prompt(random, model.vocab);
  r.tenant = random.below(static_cast<uint64_t>(tenants));
  r.priority = static_cast<int32_t>(random.below(static_cast<uint64_t>(priorities)));
  r.cache_salt = random.below(8) == 0;
  SamplingParams& s = r.sampling;
  s.seed = random();
  s.max_tokens = log_uniform(random, kLengthMax);
  if (chance(5)) s.n = 1 + static_cast<int32_t>(random.below(static_cast<uint64_t>(std::min(4, choices_max))));
  if (chance(20)) s.min_tokens = static_cast<int32_t>(random.below(static_cast<uint64_t>(*s.max_tokens) + 1));
  if (chance(20)) s.stop_token_ids = {static_cast<int32_t>(random.below(static_cast<uint64_t>(model.vocab)))};
  if (chance(5)) s.ignore_eos = true;
  if (chance(5)) s.repetition_penalty = 1.1f;  // the fake device leaves logits alone, but the engine may not run ahead
  if (chance(5)) s.logprobs = 0;
  if (chance(3)) r.constraint = std::make_shared<EvenTokens>();
  if (chance(1)) {
    s.max_tokens = 0;
    s.n = 1;
    s.min_tokens = 0;
    s.prompt_logprobs = 0;
  } else if (chance(1)) {
    r.pooled_embedding = true;
    s.n = 1;
  }
  if (chance(14)) {
    plan.cancel_after_ns = log_uniform(random, 2000) * kNsPerMs;
  } else if (chance(46)) {
    plan.cancel_at_token = static_cast<int32_t>(random.below(static_cast<uint64_t>(*s.max_tokens) + 1));
  }
  return plan;
}

Client::Client(const FakeModel& model, RequestId id, ClientPlan plan, TimeNs arrival_ns)
    : model_(&model), id_(id), plan_(std::move(plan)), arrival_ns_(arrival_ns) {}

std::string Client::use(const EngineEvent& event, TimeNs now_ns) {
  if (end_) return fmt::format("request {}: an event after End", id_);
  std::string found;
  if (const auto* tokens = std::get_if<TokenEvent>(&event.body)) found = use_tokens(*tokens);
  if (const auto* choice = std::get_if<ChoiceEndEvent>(&event.body)) found = use_choice_end(*choice);
  if (const auto* scores = std::get_if<PromptLogprobsEvent>(&event.body)) found = use_scores(*scores);
  if (const auto* embedding = std::get_if<EmbeddingEvent>(&event.body)) found = use_embedding(*embedding);
  if (const auto* end = std::get_if<EndEvent>(&event.body)) found = use_end(*end, now_ns);
  return found.empty() ? found : fmt::format("request {}: {}", id_, found);
}

void Client::start_choices() {
  if (!choices_.empty()) return;
  Oracle oracle(*model_);
  for (const int32_t token : plan_.request.prompt) oracle.push(token);
  choices_.assign(static_cast<size_t>(plan_.request.sampling.n), Choice{oracle});
}

bool Client::is_stop(int32_t token) const {
  const SamplingParams& s = plan_.request.sampling;
  return (token == kStopToken && !s.ignore_eos) || std::find(s.stop_token_ids.begin(), s.stop_token_ids.end(), token) != s.stop_token_ids.end();
}

/// What the model alone would say next: its free choice, moved on while it is not allowed.
int32_t Client::expected_token(const Choice& choice, int32_t index) const {
  const SamplingParams& s = plan_.request.sampling;
  const uint64_t position = plan_.request.prompt.size() + static_cast<uint64_t>(choice.tokens);
  int32_t token = Oracle::token(choice.oracle.context(), *s.seed + static_cast<uint64_t>(index), position, model_->vocab);
  const auto held_back = [&](int32_t t) {
    return choice.tokens < s.min_tokens &&
           (t == kStopToken || std::find(s.stop_token_ids.begin(), s.stop_token_ids.end(), t) != s.stop_token_ids.end());
  };
  while (held_back(token) || (plan_.request.constraint && token % 2 != 0)) token = (token + 1) % model_->vocab;
  return token;
}

std::string Client::use_tokens(const TokenEvent& event) {
  start_choices();
  if (event.choice < 0 || event.choice >= static_cast<int32_t>(choices_.size())) return "tokens of a choice that does not exist";
  Choice& choice = choices_[static_cast<size_t>(event.choice)];
  if (choice.ended) return "tokens after the choice's end";
  if (event.logprobs.size() != (plan_.request.sampling.logprobs >= 0 ? event.tokens.size() : 0)) return "a wrong number of log-probabilities";
  for (size_t i = 0; i < event.tokens.size(); ++i) {
    const int32_t token = event.tokens[i];
    if (const int32_t expected = expected_token(choice, event.choice); token != expected) {
      return fmt::format("choice {} says {} at {}, and {} when alone", event.choice, token, choice.tokens, expected);
    }
    if (is_stop(token)) return "a stop token is part of the answer";
    if (!event.logprobs.empty()) {
      const TokenLogprob& logprob = event.logprobs[i];
      if (logprob.token != token || logprob.logprob != Oracle::logprob(choice.oracle.context(), token)) return "a wrong log-probability";
    }
    choice.oracle.push(token);
    if (++choice.tokens > *plan_.request.sampling.max_tokens) return "more tokens than max_tokens";
    ++tokens_seen_;
  }
  return {};
}

std::string Client::use_choice_end(const ChoiceEndEvent& event) {
  if (!plan_.request.pooled_embedding && *plan_.request.sampling.max_tokens == 0) {
    return scored_ == static_cast<int32_t>(plan_.request.prompt.size()) - 1 ? "" : "a scored prompt ends before its end";
  }
  if (plan_.request.pooled_embedding) return embedded_ ? "" : "an embedding request ends without its embedding";
  start_choices();
  Choice& choice = choices_[static_cast<size_t>(event.choice)];
  if (std::exchange(choice.ended, true)) return "a choice ends twice";
  if (event.reason == FinishReason::length) {
    return choice.tokens == *plan_.request.sampling.max_tokens ? "" : "a choice ends by length before its length";
  }
  const int32_t expected = expected_token(choice, event.choice);
  return event.stop_token == expected && is_stop(expected) ? "" : "a choice stops where the model does not";
}

std::string Client::use_scores(const PromptLogprobsEvent& event) {
  const std::vector<int32_t>& prompt = plan_.request.prompt;
  if (!scorer_) scorer_.emplace(*model_);
  if (event.first != scored_ + 1) return "prompt log-probabilities with a gap";
  for (const TokenLogprob& score : event.logprobs) {
    scorer_->push(prompt[static_cast<size_t>(scored_)]);
    const int32_t token = prompt[static_cast<size_t>(++scored_)];
    if (score.token != token || score.logprob != Oracle::logprob(scorer_->context(), token)) return "a wrong prompt log-probability";
  }
  return {};
}

std::string Client::use_embedding(const EmbeddingEvent& event) {
  if (std::exchange(embedded_, true) || !plan_.request.pooled_embedding) return "an embedding nobody asked for";
  const std::vector<float> expected = Oracle::embedding(*model_, plan_.request.prompt);
  const auto close = [](float a, float b) { return std::abs(a - b) < 1e-6f; };
  return std::equal(event.values.begin(), event.values.end(), expected.begin(), expected.end(), close) ? "" : "a wrong embedding";
}

std::string Client::use_end(const EndEvent& event, TimeNs now_ns) {
  end_ = event;
  const EngineRequest& r = plan_.request;
  switch (event.reason) {
    case FinishReason::cancelled: return cancelled_ ? "" : "cancelled by nobody";
    case FinishReason::deadline: return r.deadline_ns != 0 && now_ns >= r.deadline_ns ? "" : "ended by a deadline that has not come";
    case FinishReason::error: return "failed: " + event.error.message;
    case FinishReason::stop: case FinishReason::length: break;
  }
  const bool answers = !r.pooled_embedding && *r.sampling.max_tokens > 0;
  if (answers && (choices_.empty() || !std::all_of(choices_.begin(), choices_.end(), [](const Choice& c) { return c.ended; }))) {
    return "ends before its choices";
  }
  if (event.usage.prompt_tokens != static_cast<int32_t>(r.prompt.size())) return "a wrong number of prompt tokens";
  return {};
}

}  // namespace pagemill::simulation
