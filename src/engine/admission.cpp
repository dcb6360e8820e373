#include "engine/admission.h"

#include <algorithm>

#include <fmt/format.h>

#include "base/check.h"

namespace pagemill {

Result<RequestId> Admission::accept(const EngineRequest& request) {
  Result<void> checked = check(request);
  const bool answers = !request.pooled_embedding && request.sampling.max_tokens.value_or(1) > 0;
  if (checked) checked = count(static_cast<int32_t>(request.prompt.size()), answers ? request.sampling.n : 1);
  if (!checked) {
    rejected_.fetch_add(1, std::memory_order_relaxed);
    return tl::unexpected(std::move(checked).error());
  }
  return last_id_.fetch_add(1, std::memory_order_relaxed) + 1;
}

Result<void> Admission::check(const EngineRequest& request) const {
  PM_CHECK(request.events, "a request needs an event queue");
  const EngineModelInfo& model = config_.model;
  if (!request.model.empty() && request.model != model.name) {
    return fail(ErrorCode::not_found, fmt::format("The model `{}` does not exist.", request.model), "model");
  }
  if (request.prompt.empty()) return fail(ErrorCode::invalid_argument, "The prompt is empty: it needs at least one token.", "prompt");
  const auto wrong = std::find_if(request.prompt.begin(), request.prompt.end(), [&](int32_t t) { return t < 0 || t >= model.vocab; });
  if (wrong != request.prompt.end()) {
    return fail(ErrorCode::invalid_argument, fmt::format("Token id {} is not in the vocabulary (0 to {}).", *wrong, model.vocab - 1), "prompt");
  }
  if (request.sampling.n < 1 || request.sampling.n > config_.max_num_seqs) {
    return fail(ErrorCode::invalid_argument,
                fmt::format("n is {}, and this server computes 1 to {} sequences at a time (--max-num-seqs).", request.sampling.n,
                            config_.max_num_seqs), "n");
  }
  const auto prompt = static_cast<int64_t>(request.prompt.size());
  const bool answers = !request.pooled_embedding && request.sampling.max_tokens.value_or(1) > 0;
  const int64_t output = !answers ? 0 : request.sampling.max_tokens.value_or(1);
  if (prompt + output > model.context_max) {
    return fail(ErrorCode::context_too_long,
                fmt::format("This model's maximum context length is {} tokens. However, you requested {} output tokens and your prompt "
                            "contains {} input tokens, for a total of {} tokens. Please reduce the length of the input prompt or the "
                            "number of requested output tokens.", model.context_max, output, prompt, prompt + output), "input_tokens");
  }
  return {};
}

Result<void> Admission::count(int32_t prompt_tokens, int32_t choices) {
  const int32_t requests = queued_requests_.fetch_add(choices, std::memory_order_relaxed) + choices;
  const int64_t tokens = queued_tokens_.fetch_add(prompt_tokens, std::memory_order_relaxed) + prompt_tokens;
  const bool alone = requests == choices;  // whatever its size, the queue's only request may wait
  const bool too_many = requests > config_.queued_requests_max && !alone;
  if (!too_many && (tokens <= config_.queued_tokens_max || alone)) return {};
  leave(prompt_tokens, choices);
  if (too_many) {
    return fail(ErrorCode::resource_exhausted,
                fmt::format("{} requests are waiting already (--max-queued-requests): try again later.", requests - choices));
  }
  return fail(ErrorCode::resource_exhausted,
              fmt::format("The prompts waiting hold {} tokens already, {} at most (--max-queued-tokens): try again later.",
                          tokens - prompt_tokens, config_.queued_tokens_max));
}

}  // namespace pagemill
