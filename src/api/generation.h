// Generation: one chat or completion request from its prepared prompts to the last byte of its answer, streamed or whole.
//
// Lives on its exchange's io thread. Several prompts are several sessions ("slots"); the choice with index i of slot s is
// number s × n + i in the answer.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "api/answer_json.h"
#include "api/requests.h"
#include "api/serving.h"

namespace pagemill::api {

enum class GenerationKind { chat, completion };

class Generation final : public EventSink, public std::enable_shared_from_this<Generation> {
 public:
  Generation(GenerationKind kind, std::shared_ptr<Serving> serving, std::shared_ptr<Exchange> exchange, std::shared_ptr<const TextModel> text,
             GenerationBody body);

  /// Submits every prompt. If one is refused, all are withdrawn and the error is the answer.
  void start(std::vector<PreparedRequest> prepared);
  void on_event(size_t slot, EngineEvent event) override;

 private:
  struct Choice {
    std::string text;                    // whole answers, or what a slow stream holds back
    std::vector<int32_t> tokens;         // where ids were asked for
    std::string logprobs;                // chat: entries, comma-separated
    std::optional<CompletionLogprobs> completion_logprobs;
    int64_t output_tokens = 0;
    TimeNs last_token_ns = 0;
    bool finished = false, begun = false;  // begun: a stream has said something of it
    ChoiceFinished end;
  };
  struct Slot {
    std::unique_ptr<Session> session;
    uint64_t user_data = 0;
    std::string prompt_logprobs;         // entries, comma-separated
    EngineUsage usage;
    int64_t prompt_tokens = 0;
    bool ended = false;
  };

  size_t choice_index(size_t slot, int32_t choice) const { return slot * static_cast<size_t>(body_.sampling.n) + static_cast<size_t>(choice); }
  void take(size_t slot, TextEvent event);
  void take(size_t slot, PromptEvent event);
  void take(size_t slot, ChoiceFinished event);
  void take(size_t slot, SessionEnd event);
  void observe_tokens(Choice& choice, size_t tokens);
  void begin_stream();
  void emit(size_t index, bool last);
  std::string delta_json(size_t index, Choice& choice, bool last);
  std::string take_logprobs(Choice& choice);
  void write(std::string_view choice, std::string_view more = {});
  std::string prompt_tokens_json(size_t slot) const;
  void finish_stream();
  void send_whole();
  std::string whole_choice_json(size_t index, Choice& choice);
  std::string total_usage_json() const;
  void fail(const Error& error);
  void abandon();

  const GenerationKind kind_;
  const std::shared_ptr<Serving> serving_;
  std::shared_ptr<Exchange> exchange_;   // null once the answer is complete or nobody wants it
  const std::shared_ptr<const TextModel> text_;
  const GenerationBody body_;
  const TokenNames names_;
  std::string head_;                     // the JSON of a chunk up to its choices
  std::string id_;
  int64_t created_s_ = 0;
  TimeNs started_ns_ = 0;
  bool first_token_ = true;
  std::vector<Slot> slots_;
  std::vector<Choice> choices_;
  size_t slots_left_ = 0;
  std::vector<SessionEvent> scratch_;
};

}  // namespace pagemill::api
