#include "engine/outbox.h"

#include <utility>

#include "base/check.h"

namespace pagemill {

size_t Outbox::waiting_bytes(const Request& request) {
  const auto bytes_of = [](const std::vector<TokenLogprob>& logprobs) {
    return logprobs.empty() ? 0 : logprobs.size() * (sizeof(TokenLogprob) + logprobs.front().top.size() * sizeof(TopLogprob));
  };
  size_t bytes = bytes_of(request.unsent_scores.logprobs);
  for (const auto& choice : request.choices) {
    bytes += (choice->tokens.size() - choice->unsent_from) * sizeof(int32_t) + bytes_of(choice->unsent_logprobs);
  }
  return bytes;
}

void Outbox::push(Request& request, decltype(EngineEvent::body) body) {
  EventQueue& queue = *request.spec.events;
  EngineEvent event{request.id, request.spec.user_data, std::move(body)};
  const bool first = !queue.pushed();
  if (last_) {
    queue.push_last(std::move(event));
  } else {
    const bool pushed = queue.push(event);
    PM_CHECK(pushed, "there was room for an event, and now there is not");
  }
  if (first && queue.pushed()) touched_.push_back(request.spec.events);
}

/// True when nothing is left to say; false when the ring is full. Nobody else pushes, so room that is there stays.
bool Outbox::deliver(Request& request) {
  const auto room = [&] { return last_ || !request.spec.events->full(); };
  if (PromptLogprobsEvent& scores = request.unsent_scores; !scores.logprobs.empty()) {
    if (!room()) return false;
    const auto next = scores.first + static_cast<int32_t>(scores.logprobs.size());
    push(request, std::exchange(scores, {.first = next, .logprobs = {}}));
  }
  if (request.unsent_embedding) {
    if (!room()) return false;
    push(request, *std::exchange(request.unsent_embedding, {}));
  }
  for (const auto& choice : request.choices) {
    Sequence& s = *choice;
    if (s.unsent_from < s.tokens.size()) {
      if (!room()) return false;
      push(request, TokenEvent{.choice = s.choice, .tokens = TokenList(std::span<const int32_t>(s.tokens).subspan(s.unsent_from)),
                               .logprobs = std::exchange(s.unsent_logprobs, {})});
      s.unsent_from = s.tokens.size();
    }
    if (s.unsent_end) {
      if (!room()) return false;
      push(request, *std::exchange(s.unsent_end, {}));
    }
  }
  if (request.unsent_end) {
    if (!room()) return false;
    push(request, *std::exchange(request.unsent_end, {}));
  }
  return true;
}

void Outbox::wake_readers() {
  for (const auto& queue : touched_) queue->flush();
  touched_.clear();
}

void Outbox::flush_last() {
  last_ = true;
  for (Request* request : marked_) deliver(*request);
  marked_.clear();
  wake_readers();
}

}  // namespace pagemill
