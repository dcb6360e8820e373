#include "session/scripted_engine.h"

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <optional>
#include <queue>
#include <set>
#include <thread>
#include <unordered_map>

#include <fmt/format.h>

#include "base/check.h"
#include "session/scripted_answer.h"

namespace pagemill {
namespace {

constexpr TimeNs kNever = INT64_MAX;
constexpr TimeNs kRetryNs = 100'000;  // a stream whose ring is full looks again after this long

/// What the reader has been given of a choice.
struct Choice {
  size_t sent = 0;                       // tokens
  bool unwanted = false;                 // end_choice() was called
  bool ended = false;
};

/// An accepted request. From take_inbox() on, only the engine's thread touches it.
struct Stream {
  RequestId id = 0;
  EngineRequest request;
  TimeNs submitted_ns = 0;
  TimeNs started_ns = 0;                 // 0 = waiting
  TimeNs wake_ns = kNever;               // when advance() is next called; timers that say another time are stale
  ScriptedAnswer answer;                 // cut at the first stop token and at the length
  int32_t stop_token = -1;
  size_t due = 0;                        // tokens of each choice that may be out
  bool prompt_told = false;              // its log-probabilities or embedding
  std::vector<Choice> choices;
  std::optional<EndEvent> end;           // once it is decided; choices that have not ended stay so
};

class ScriptedEngine final : public EngineHandle {
 public:
  explicit ScriptedEngine(ScriptedEngineConfig config) : config_(std::move(config)), ready_ns_(clock().now_ns() + config_.load_ns) {
    if (!config_.script) config_.script = [](const EngineRequest& request) { return ScriptedAnswer{.tokens = request.prompt}; };
    thread_ = std::thread([this] { run(); });
  }

  ~ScriptedEngine() override {
    tell_thread([this] { stopping_ = true; });
    thread_.join();
  }

  Result<RequestId> submit(EngineRequest request) override;
  void cancel(RequestId request) override { tell_thread([&] { cancelled_.push_back(request); }); }
  void end_choice(RequestId request, int32_t choice) override { tell_thread([&] { ended_choices_.emplace_back(request, choice); }); }
  std::vector<EngineModelInfo> models() const override { return {config_.model}; }
  EngineStats stats() const override;
  const Clock& clock() const override { return SteadyClock::instance(); }
  void drain(TimeNs deadline_ns) override {
    tell_thread([&] {
      draining_ = true;
      drain_deadline_ns_ = deadline_ns;
    });
  }

 private:
  template <class Change>
  void tell_thread(Change change) {
    {
      const std::scoped_lock lock(mutex_);
      change();
      news_ = true;
    }
    wake_.notify_one();
  }
  Result<void> check(const EngineRequest& request) const;

  // The engine's thread. Those marked so are called with the mutex held.
  void run();
  void take_inbox();                     // mutex held
  void publish_counters();               // mutex held
  TimeNs step();                         // → when the next one is due
  void start_waiting(TimeNs now);
  void stop_waiting(const Stream& stream);
  void advance(Stream& stream, TimeNs now);
  void count_due(Stream& stream, TimeNs now);
  bool tell(Stream& stream, TimeNs now);
  bool tell_prompt(Stream& stream);
  bool tell_choice(Stream& stream, int32_t choice);
  template <class Body>
  bool push(Stream& stream, Body body);
  void decide_end(Stream& stream, FinishReason reason, Error error = {});
  EngineUsage usage(const Stream& stream, TimeNs now) const;
  void remove(Stream& stream);
  void schedule(Stream& stream, TimeNs time);
  void end_all();

  ScriptedEngineConfig config_;
  const TimeNs ready_ns_;

  mutable std::mutex mutex_;             // the inbox and the published counters
  std::condition_variable wake_;
  bool news_ = false;
  bool stopping_ = false;
  bool draining_ = false;
  TimeNs drain_deadline_ns_ = kNever;
  RequestId next_id_ = 1;
  std::vector<Stream> submitted_;
  std::vector<RequestId> cancelled_;
  std::vector<std::pair<RequestId, int32_t>> ended_choices_;
  EngineStats published_;

  // The engine's thread only.
  std::unordered_map<RequestId, Stream> streams_;
  std::set<std::pair<int32_t, RequestId>> waiting_;  // (priority, id)
  int64_t waiting_prompt_tokens_ = 0;
  int32_t running_ = 0;
  using Timer = std::pair<TimeNs, RequestId>;
  std::priority_queue<Timer, std::vector<Timer>, std::greater<>> timers_;
  std::vector<RequestId> due_;
  std::vector<std::shared_ptr<EventQueue>> touched_;  // pushed to in this step
  EngineStats counters_;
  std::thread thread_;
};

Result<RequestId> ScriptedEngine::submit(EngineRequest request) {
  PM_CHECK(request.events != nullptr, "a request needs a queue for its events");
  RequestId id = 0;
  Result<void> checked;
  tell_thread([&] {
    checked = check(request);
    if (!checked) {
      ++published_.rejected;
      return;
    }
    id = next_id_++;
    ++published_.waiting;
    published_.waiting_prompt_tokens += static_cast<int64_t>(request.prompt.size());
    Stream& stream = submitted_.emplace_back();
    stream.id = id;
    stream.request = std::move(request);
    stream.submitted_ns = clock().now_ns();
  });
  PM_TRY(std::move(checked));
  return id;
}

Result<void> ScriptedEngine::check(const EngineRequest& request) const {
  const EngineModelInfo& model = config_.model;
  if (draining_) return fail(ErrorCode::unavailable, "The server is shutting down.");
  if (clock().now_ns() < ready_ns_) return fail(ErrorCode::unavailable, "The model is still loading.");
  if (!request.model.empty() && request.model != model.name) {
    return fail(ErrorCode::not_found, fmt::format("The model `{}` does not exist.", request.model), "model");
  }
  if (request.prompt.empty()) return fail(ErrorCode::invalid_argument, "The prompt is empty.", "prompt");
  for (const int32_t token : request.prompt) {
    if (token >= 0 && token < model.vocab) continue;
    return fail(ErrorCode::invalid_argument, fmt::format("The prompt has token id {}, the vocabulary {} tokens.", token, model.vocab), "prompt");
  }
  const int64_t output = request.pooled_embedding ? 0 : request.sampling.max_tokens.value_or(1);
  if (static_cast<int64_t>(request.prompt.size()) + output > model.context_max) {
    return fail(ErrorCode::context_too_long,
                fmt::format("This model's maximum context length is {} tokens. However, you requested {} output tokens and your prompt contains {} input tokens.",
                            model.context_max, output, request.prompt.size()),
                "input_tokens");
  }
  if (published_.waiting >= config_.queued_max) {
    return fail(ErrorCode::resource_exhausted, fmt::format("{} requests are waiting already: try again later.", published_.waiting));
  }
  return {};
}

EngineStats ScriptedEngine::stats() const {
  const std::scoped_lock lock(mutex_);
  EngineStats stats = published_;
  const TimeNs left_ns = ready_ns_ - clock().now_ns();
  stats.state = draining_ ? EngineState::draining : left_ns > 0 ? EngineState::loading : EngineState::ready;
  stats.load_progress = left_ns <= 0 ? 1 : 1 - static_cast<double>(left_ns) / static_cast<double>(config_.load_ns);
  if (left_ns > 0) stats.load_phase = "reading weights";
  return stats;
}

void ScriptedEngine::run() {
  std::unique_lock lock(mutex_);
  while (!stopping_) {
    take_inbox();
    lock.unlock();
    TimeNs next_ns = step();
    lock.lock();
    publish_counters();
    if (!streams_.empty()) next_ns = std::min(next_ns, drain_deadline_ns_);
    const TimeNs now = clock().now_ns();
    if (next_ns == kNever) wake_.wait(lock, [this] { return news_; });
    else if (next_ns > now) wake_.wait_for(lock, std::chrono::nanoseconds(next_ns - now), [this] { return news_; });
  }
  take_inbox();
  lock.unlock();
  end_all();
}

void ScriptedEngine::take_inbox() {
  news_ = false;
  for (Stream& stream : submitted_) {
    const RequestId id = stream.id;
    waiting_.emplace(stream.request.priority, id);
    waiting_prompt_tokens_ += static_cast<int64_t>(stream.request.prompt.size());
    Stream& taken = streams_.emplace(id, std::move(stream)).first->second;
    schedule(taken, taken.request.deadline_ns > 0 ? taken.request.deadline_ns : kNever);
  }
  submitted_.clear();
  const TimeNs now = clock().now_ns();
  const auto cancel_stream = [&](Stream& stream) {
    decide_end(stream, FinishReason::cancelled);
    schedule(stream, now);
  };
  for (const RequestId id : cancelled_) {
    if (const auto found = streams_.find(id); found != streams_.end()) cancel_stream(found->second);
  }
  cancelled_.clear();
  for (const auto& [id, choice] : ended_choices_) {
    const auto found = streams_.find(id);
    if (found == streams_.end() || static_cast<size_t>(choice) >= found->second.choices.size()) continue;
    found->second.choices[static_cast<size_t>(choice)].unwanted = true;
    schedule(found->second, now);
  }
  ended_choices_.clear();
  if (now < drain_deadline_ns_) return;
  for (auto& [id, stream] : streams_) cancel_stream(stream);
  drain_deadline_ns_ = kNever;
}

void ScriptedEngine::publish_counters() {
  counters_.rejected = published_.rejected;
  counters_.running = running_;
  counters_.waiting = static_cast<int32_t>(waiting_.size() + submitted_.size());
  counters_.waiting_prompt_tokens = waiting_prompt_tokens_;
  for (const Stream& stream : submitted_) counters_.waiting_prompt_tokens += static_cast<int64_t>(stream.request.prompt.size());
  published_ = counters_;
}

TimeNs ScriptedEngine::step() {
  const TimeNs now = clock().now_ns();
  start_waiting(now);
  due_.clear();
  while (!timers_.empty() && timers_.top().first <= now) {
    const auto [time, id] = timers_.top();
    timers_.pop();
    const auto found = streams_.find(id);
    if (found == streams_.end() || found->second.wake_ns != time) continue;
    found->second.wake_ns = kNever;
    due_.push_back(id);
  }
  for (const RequestId id : due_) advance(streams_.at(id), now);
  for (const auto& queue : touched_) queue->flush();
  touched_.clear();
  ++counters_.steps;
  counters_.last_step_end_ns = clock().now_ns();
  if (running_ < config_.running_max && !waiting_.empty()) return now;  // an answer's end has made room
  return timers_.empty() ? kNever : timers_.top().first;
}

void ScriptedEngine::start_waiting(TimeNs now) {
  while (running_ < config_.running_max && !waiting_.empty()) {
    Stream& stream = streams_.at(waiting_.begin()->second);
    stop_waiting(stream);
    ++running_;
    stream.started_ns = now;
    stream.choices.resize(static_cast<size_t>(std::max(stream.request.sampling.n, 1)));
    if (stream.end) continue;            // cancelled: its timer is due
    stream.answer = config_.script(stream.request);
    stream.stop_token = cut_answer(stream.answer, stream.request, config_.model);
    if (stream.request.pooled_embedding) stream.answer = {}, stream.choices.clear();
    counters_.prompt_tokens += stream.request.prompt.size();
    schedule(stream, now);
  }
}

void ScriptedEngine::stop_waiting(const Stream& stream) {
  waiting_.erase({stream.request.priority, stream.id});
  waiting_prompt_tokens_ -= static_cast<int64_t>(stream.request.prompt.size());
}

void ScriptedEngine::advance(Stream& stream, TimeNs now) {
  const TimeNs deadline_ns = stream.request.deadline_ns > 0 ? stream.request.deadline_ns : kNever;
  if (now >= deadline_ns) decide_end(stream, FinishReason::deadline);
  if (stream.started_ns != 0 && !stream.end) count_due(stream, now);
  if (!tell(stream, now)) return schedule(stream, now + kRetryNs);
  if (stream.end) return remove(stream);
  if (stream.started_ns == 0) return schedule(stream, deadline_ns);
  const TimeNs token_ns = stream.started_ns + stream.answer.first_token_ns + static_cast<TimeNs>(stream.due) * stream.answer.per_token_ns;
  schedule(stream, std::min(std::max(token_ns, now), deadline_ns));
}

/// By the script's times; a stream without them gets its next token once the reader has taken the last.
void ScriptedEngine::count_due(Stream& stream, TimeNs now) {
  const ScriptedAnswer& answer = stream.answer;
  const TimeNs running_ns = now - stream.started_ns - answer.first_token_ns;
  if (running_ns < 0 || answer.tokens.empty()) return;
  size_t least = stream.due;             // that a choice which goes on has sent
  for (const Choice& choice : stream.choices) if (!choice.ended) least = std::min(least, choice.sent);
  const size_t due = answer.per_token_ns > 0 ? static_cast<size_t>(running_ns / answer.per_token_ns) + 1 : least + 1;
  stream.due = std::clamp(due, stream.due, answer.tokens.size());
  if ((stream.due - least) * sizeof(int32_t) > limits::kStreamBufferBytes) decide_end(stream, FinishReason::cancelled);
}

/// Pushes what is due, in order; false where the ring is full. Decides the end once everything has been said.
bool ScriptedEngine::tell(Stream& stream, TimeNs now) {
  const bool begun = stream.started_ns != 0 && now >= stream.started_ns + stream.answer.first_token_ns;
  if (begun && !stream.end) {
    if (!tell_prompt(stream)) return false;
    for (size_t choice = 0; choice < stream.choices.size(); ++choice) {
      if (!tell_choice(stream, static_cast<int32_t>(choice))) return false;
    }
    const auto ended = [](const Choice& choice) { return choice.ended; };
    const auto unwanted = [](const Choice& choice) { return choice.unwanted; };
    const bool over = !stream.choices.empty() && std::all_of(stream.choices.begin(), stream.choices.end(), ended);
    if (over && std::all_of(stream.choices.begin(), stream.choices.end(), unwanted)) decide_end(stream, FinishReason::stop);
    else if (over || stream.due == stream.answer.tokens.size()) decide_end(stream, stream.answer.reason, stream.answer.error);
  }
  if (!stream.end) return true;
  stream.end->usage = usage(stream, now);
  return push(stream, *stream.end);
}

bool ScriptedEngine::tell_prompt(Stream& stream) {
  if (stream.prompt_told) return true;
  const EngineRequest& request = stream.request;
  if (request.pooled_embedding) {
    stream.prompt_told = push(stream, EmbeddingEvent{made_up_embedding(request.prompt)});
    return stream.prompt_told;
  }
  if (request.sampling.prompt_logprobs >= 0) {
    PromptLogprobsEvent event;
    for (size_t i = 1; i < request.prompt.size(); ++i) {
      event.logprobs.push_back(made_up_logprob(request.prompt[i], request.sampling.prompt_logprobs, config_.model.vocab));
    }
    if (!push(stream, std::move(event))) return false;
  }
  return stream.prompt_told = true;
}

bool ScriptedEngine::tell_choice(Stream& stream, int32_t index) {
  Choice& choice = stream.choices[static_cast<size_t>(index)];
  const auto& tokens = stream.answer.tokens;
  if (choice.ended) return true;
  if (choice.unwanted) return choice.ended = push(stream, ChoiceEndEvent{index, FinishReason::stop, -1});
  if (choice.sent < stream.due) {
    TokenEvent event{index, TokenList(std::span(tokens).subspan(choice.sent, stream.due - choice.sent)), {}};
    if (const int32_t top = stream.request.sampling.logprobs; top >= 0) {
      for (const int32_t token : event.tokens) event.logprobs.push_back(made_up_logprob(token, top, config_.model.vocab));
    }
    if (!push(stream, std::move(event))) return false;
    counters_.output_tokens += stream.due - choice.sent;
    choice.sent = stream.due;
  }
  const bool ends_alone = stream.answer.reason == FinishReason::stop || stream.answer.reason == FinishReason::length;
  if (choice.sent < tokens.size() || !ends_alone) return true;
  return choice.ended = push(stream, ChoiceEndEvent{index, stream.answer.reason, stream.stop_token});
}

template <class Body>
bool ScriptedEngine::push(Stream& stream, Body body) {
  EventQueue& queue = *stream.request.events;
  const bool first = !queue.pushed();
  EngineEvent event{stream.id, stream.request.user_data, std::move(body)};
  if (!queue.push(event)) return false;
  if (first) touched_.push_back(stream.request.events);
  return true;
}

void ScriptedEngine::decide_end(Stream& stream, FinishReason reason, Error error) {
  if (stream.end) return;
  stream.end = EndEvent{reason, std::move(error), {}};
  switch (reason) {
    case FinishReason::stop: ++counters_.finished_stop; break;
    case FinishReason::length: ++counters_.finished_length; break;
    case FinishReason::cancelled: ++counters_.finished_cancelled; break;
    case FinishReason::deadline:
    case FinishReason::error: ++counters_.finished_error; break;
  }
}

EngineUsage ScriptedEngine::usage(const Stream& stream, TimeNs now) const {
  EngineUsage usage;
  usage.prompt_tokens = static_cast<int32_t>(stream.request.prompt.size());
  for (const Choice& choice : stream.choices) usage.output_tokens += static_cast<int32_t>(choice.sent) + (choice.ended && !choice.unwanted && stream.stop_token >= 0);
  const TimeNs started_ns = stream.started_ns != 0 ? stream.started_ns : now;
  usage.queued_ns = started_ns - stream.submitted_ns;
  usage.prefill_ns = std::min(stream.answer.first_token_ns, now - started_ns);
  usage.decode_ns = now - started_ns - usage.prefill_ns;
  return usage;
}

void ScriptedEngine::remove(Stream& stream) {
  if (stream.started_ns != 0) --running_;
  else stop_waiting(stream);
  streams_.erase(stream.id);
}

void ScriptedEngine::schedule(Stream& stream, TimeNs time) {
  stream.wake_ns = time;
  if (time != kNever) timers_.emplace(time, stream.id);
}

void ScriptedEngine::end_all() {
  const TimeNs now = clock().now_ns();
  for (auto& [id, stream] : streams_) {
    decide_end(stream, FinishReason::error, {ErrorCode::unavailable, "The server was shut down.", {}});
    stream.end->usage = usage(stream, now);
    stream.request.events->push_last({id, stream.request.user_data, std::move(*stream.end)});
    stream.request.events->flush();
  }
}

}  // namespace

std::unique_ptr<EngineHandle> make_scripted_engine(ScriptedEngineConfig config) {
  return std::make_unique<ScriptedEngine>(std::move(config));
}

}  // namespace pagemill
