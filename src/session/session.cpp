#include "session/session.h"

#include <algorithm>

#include "base/check.h"
#include "session/stop_strings.h"
#include "text/detokenizer.h"

namespace pagemill {
namespace {

/// One answer on its way from tokens to text.
struct Choice {
  Choice(const TextModel& text, const StopStrings& stop, const SessionRequest& request)
      : detokenizer(text.tokenizer(), !request.skip_special_tokens), matcher(stop, request.include_stop) {}

  Detokenizer detokenizer;
  StopMatcher matcher;
  int32_t tokens = 0;    // told to the reader, and the stop token
  bool begun = false;    // echo has been told
  bool finished = false;
};

}  // namespace

struct Session::State {
  State(EngineHandle& engine_in, const TextModel& text, PreparedRequest prepared_in)
      : engine(engine_in), prepared(std::move(prepared_in)), stop(prepared.request.stop) {
    const SessionRequest& request = prepared.request;
    const size_t count = request.embedding ? 0 : static_cast<size_t>(request.sampling.n);
    choices.reserve(count);
    for (size_t i = 0; i < count; ++i) choices.emplace_back(text, stop, request);
  }

  Choice* find_choice(int32_t index);
  void begin_choice(int32_t index, std::vector<SessionEvent>& out);
  void finish_choice(int32_t index, FinishReason reason, std::string stop_string, int32_t stop_token, std::vector<SessionEvent>& out);
  int push_tokens(Choice& choice, const TokenEvent& event, TextEvent& text);

  void on(TokenEvent& event, std::vector<SessionEvent>& out);
  void on(PromptLogprobsEvent& event, std::vector<SessionEvent>& out);
  void on(EmbeddingEvent& event, std::vector<SessionEvent>& out);
  void on(ChoiceEndEvent& event, std::vector<SessionEvent>& out);
  void on(EndEvent& event, std::vector<SessionEvent>& out);

  EngineHandle& engine;
  PreparedRequest prepared;
  StopStrings stop;
  std::vector<Choice> choices;
  RequestId id = 0;
  bool ended = false;
};

/// Null for an embedding and where the choice has finished: the engine may be a few tokens ahead of a stop string.
Choice* Session::State::find_choice(int32_t index) {
  if (prepared.request.embedding) return nullptr;
  PM_CHECK(index >= 0 && static_cast<size_t>(index) < choices.size(), "choice {} of {}", index, choices.size());
  Choice& choice = choices[static_cast<size_t>(index)];
  return choice.finished ? nullptr : &choice;
}

void Session::State::begin_choice(int32_t index, std::vector<SessionEvent>& out) {
  Choice& choice = choices[static_cast<size_t>(index)];
  if (choice.begun) return;
  choice.begun = true;
  if (!prepared.prompt_text.empty()) out.emplace_back(TextEvent{index, prepared.prompt_text, {}, {}});
}

/// Tells what was held back, and the end.
void Session::State::finish_choice(int32_t index, FinishReason reason, std::string stop_string, int32_t stop_token,
                                   std::vector<SessionEvent>& out) {
  begin_choice(index, out);
  Choice& choice = choices[static_cast<size_t>(index)];
  TextEvent rest{index, {}, {}, {}};
  if (stop_string.empty()) {
    std::string piece;
    choice.detokenizer.finish(piece);
    const int match = choice.matcher.push(piece, rest.text);  // U+FFFD for half a character may complete one
    if (match < 0) choice.matcher.finish(rest.text);
    else stop_string = stop[static_cast<size_t>(match)], reason = FinishReason::stop, stop_token = -1;
  }
  if (!rest.text.empty()) out.push_back(std::move(rest));
  choice.finished = true;
  if (stop_token >= 0) ++choice.tokens;
  out.emplace_back(ChoiceFinished{index, reason, std::move(stop_string), stop_token});
}

/// Takes the event's tokens up to the one that completes a stop string, whose index is returned, else -1.
int Session::State::push_tokens(Choice& choice, const TokenEvent& event, TextEvent& text) {
  std::string piece;
  for (size_t i = 0; i < event.tokens.size(); ++i) {
    text.tokens.push_back(event.tokens[i]);
    if (i < event.logprobs.size()) text.logprobs.push_back(event.logprobs[i]);
    ++choice.tokens;
    piece.clear();
    choice.detokenizer.push(event.tokens[i], piece);
    if (choice.tokens <= prepared.request.sampling.min_tokens) {
      choice.matcher.restart(text.text);
      text.text += piece;
    } else if (const int match = choice.matcher.push(piece, text.text); match >= 0) {
      return match;
    }
  }
  return -1;
}

void Session::State::on(TokenEvent& event, std::vector<SessionEvent>& out) {
  Choice* choice = find_choice(event.choice);
  if (choice == nullptr) return;
  begin_choice(event.choice, out);
  TextEvent text{event.choice, {}, {}, {}};
  const int match = push_tokens(*choice, event, text);
  out.push_back(std::move(text));
  if (match < 0) return;
  finish_choice(event.choice, FinishReason::stop, stop[static_cast<size_t>(match)], -1, out);
  engine.end_choice(id, event.choice);
}

void Session::State::on(PromptLogprobsEvent& event, std::vector<SessionEvent>& out) {
  out.emplace_back(PromptEvent{std::move(event.logprobs)});
}

void Session::State::on(EmbeddingEvent& event, std::vector<SessionEvent>& out) {
  out.emplace_back(SessionEmbeddingEvent{std::move(event.values)});
}

void Session::State::on(ChoiceEndEvent& event, std::vector<SessionEvent>& out) {
  if (find_choice(event.choice) == nullptr) return;
  finish_choice(event.choice, event.reason, {}, event.stop_token, out);
}

void Session::State::on(EndEvent& event, std::vector<SessionEvent>& out) {
  for (size_t i = 0; i < choices.size(); ++i) {
    if (!choices[i].finished) finish_choice(static_cast<int32_t>(i), event.reason, {}, -1, out);
  }
  SessionEnd end{event.reason, std::move(event.error), event.usage};
  end.usage.output_tokens = 0;
  for (const Choice& choice : choices) end.usage.output_tokens += choice.tokens;
  ended = true;
  out.emplace_back(std::move(end));
}

Session::Session(std::unique_ptr<State> state) : state_(std::move(state)) {}

Session::~Session() { cancel(); }

Result<std::unique_ptr<Session>> Session::start(EngineHandle& engine, const TextModel& text, PreparedRequest prepared,
                                                std::shared_ptr<EventQueue> events, uint64_t user_data) {
  auto state = std::make_unique<State>(engine, text, std::move(prepared));
  const SessionRequest& request = state->prepared.request;
  EngineRequest submitted;
  submitted.model = request.model;
  submitted.prompt = state->prepared.prompt_tokens;
  submitted.sampling = request.sampling;
  submitted.constraint = request.constraint;
  submitted.tenant = request.tenant;
  submitted.cache_salt = request.cache_salt;
  submitted.priority = request.priority;
  submitted.deadline_ns = request.deadline_ns;
  submitted.pooled_embedding = request.embedding;
  submitted.events = std::move(events);
  submitted.user_data = user_data;
  PM_ASSIGN(state->id, engine.submit(std::move(submitted)));
  return std::unique_ptr<Session>(new Session(std::move(state)));
}

void Session::on_event(EngineEvent event, std::vector<SessionEvent>& out) {
  if (state_->ended) return;
  std::visit([&](auto& body) { state_->on(body, out); }, event.body);
}

void Session::cancel() {
  if (!state_->ended) state_->engine.cancel(state_->id);
}

bool Session::ended() const { return state_->ended; }
const PreparedRequest& Session::prepared() const { return state_->prepared; }
RequestId Session::id() const { return state_->id; }

}  // namespace pagemill
