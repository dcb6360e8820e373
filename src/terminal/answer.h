// One answer at a time from an engine, for callers that wait for it.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "session/session.h"

namespace pagemill {

struct AnswerStats {
  FinishReason reason = FinishReason::stop;
  EngineUsage usage;
  double first_token_s = 0;   // from submitting to the first token; 0 where none came
  double after_first_s = 0;   // from the first token to the last
  int32_t tokens = 0;

  /// Tokens per second after the first; 0 where there were fewer than two.
  double tokens_per_s() const { return tokens > 1 && after_first_s > 0 ? (tokens - 1) / after_first_s : 0; }
};

class WakeEvent;

/// Belongs to one thread.
class Answerer {
 public:
  /// Both must outlive it.
  Answerer(EngineHandle& engine, const TextModel& text, EngineModelInfo model);

  /// Runs `request` to its end; `on_text` gets each piece as it comes. `interrupt_fd`, where not -1, ends the answer with
  /// FinishReason::cancelled once it becomes readable; it is not read. Fails where the request is refused or the engine fails.
  Result<AnswerStats> answer(SessionRequest request, const std::function<void(std::string_view)>& on_text, int interrupt_fd = -1);

  const EngineModelInfo& model() const { return model_; }

 private:
  EngineHandle& engine_;
  const TextModel& text_;
  EngineModelInfo model_;
  std::shared_ptr<const WakeEvent> wake_;  // shared with the engine's thread, which may still write after the last event
  std::shared_ptr<EventQueue> events_;
  uint64_t answers_ = 0;                   // tells this answer's events from a former one's
};

}  // namespace pagemill
