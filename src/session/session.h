// Session: one generation from a typed request to typed events: template, tokens, engine, text.
//
// A Session belongs to the thread that reads its events (an io thread, the terminal, a chat job's thread). Preparing a
// request (template, tokenization, grammar) may take long and runs where the caller says: prepare() is a plain function that
// the caller puts on a worker pool.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "base/json.h"
#include "base/result.h"
#include "engine/handle.h"
#include "text/text_model.h"

namespace pagemill {

/// Messages as OpenAI's chat API has them, already checked for shape: [{"role": …, "content": …, …}].
struct ChatPrompt {
  json::array messages;
  json::array tools;
  json::object template_arguments;       // chat_template_kwargs that were allowed
  bool add_generation_prompt = true;
  bool continue_final_message = false;
};
struct TextPrompt {
  std::string text;
  bool add_special_tokens = true;
};
struct TokenPrompt {
  std::vector<int32_t> tokens;
};

struct SessionRequest {
  std::string model;
  std::variant<ChatPrompt, TextPrompt, TokenPrompt> prompt;
  SamplingParams sampling;
  /// Instead of sampling.max_tokens where that is absent (a server's default); both absent = what the context leaves. Unlike
  /// max_tokens it is cut to what the context leaves.
  std::optional<int32_t> default_max_tokens;
  std::vector<std::string> stop;         // strings that end the answer; not part of the text unless include_stop
  bool include_stop = false;
  std::vector<std::string> bad_words;    // added to sampling.bad_words, with and without a space before them
  bool skip_special_tokens = true;
  bool echo = false;                     // the prompt's text comes first; sampling.max_tokens may be 0: nothing is generated
  bool embedding = false;                // no answer: the prompt's embedding
  std::shared_ptr<TokenConstraint> constraint;
  uint64_t tenant = 0;
  uint64_t cache_salt = 0;
  int32_t priority = 0;
  TimeNs deadline_ns = 0;
};

/// A request ready to be submitted.
struct PreparedRequest {
  SessionRequest request;
  std::vector<int32_t> prompt_tokens;
  std::string prompt_text;               // what echo puts first: the text, the tokens' text, or the assistant turn to continue
  bool prompt_only = false;              // echo with max_tokens 0: only the prompt's text and log-probabilities are wanted
};

/// The texts of a choice's events add up to its text, their tokens to its tokens. Text may come later than its tokens (a character
/// or a stop string may be under way) and an event may have either alone. With echo, a choice's first event is the prompt's
/// text, without tokens.
struct TextEvent {
  int32_t choice = 0;
  std::string text;                      // whole UTF-8 characters
  std::vector<int32_t> tokens;           // those of a stop string included, none after it
  std::vector<TokenLogprob> logprobs;    // one per token where asked for, else empty
};
struct PromptEvent {
  std::vector<TokenLogprob> logprobs;    // prompt log-probabilities
};
struct SessionEmbeddingEvent {
  std::vector<float> values;
};
/// Comes once for each choice, after its last TextEvent, also where the whole request was cancelled, timed out or failed.
struct ChoiceFinished {
  int32_t choice = 0;
  FinishReason reason = FinishReason::stop;
  std::string stop_string;               // which string ended it, if one did
  int32_t stop_token = -1;
};
/// Comes once, last.
struct SessionEnd {
  FinishReason reason = FinishReason::stop;
  Error error;                           // with reason error
  EngineUsage usage;                     // output_tokens: what the events held, and stop tokens
};
using SessionEvent = std::variant<TextEvent, PromptEvent, SessionEmbeddingEvent, ChoiceFinished, SessionEnd>;

/// Renders the template and tokenizes; checks every sampling parameter and the context's length. Errors name the field of the
/// API's request. No engine state is touched. Any thread; may take long.
Result<PreparedRequest> prepare(const TextModel& text, const EngineModelInfo& model, SessionRequest request);

class Session {
 public:
  /// Submits; the session's engine events arrive in `events` with `user_data`. `engine` and `text` must outlive the session.
  static Result<std::unique_ptr<Session>> start(EngineHandle& engine, const TextModel& text, PreparedRequest prepared,
                                                std::shared_ptr<EventQueue> events, uint64_t user_data);
  /// Cancels if it has not ended.
  ~Session();

  /// Turns one engine event of this session into events for the client, appended to `out`. A stop string ends its choice, here at
  /// once and in the engine at its next step.
  void on_event(EngineEvent event, std::vector<SessionEvent>& out);
  void cancel();
  bool ended() const;
  const PreparedRequest& prepared() const;
  RequestId id() const;

 private:
  struct State;
  explicit Session(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace pagemill
