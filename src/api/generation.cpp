#include "api/generation.h"

#include <algorithm>
#include <ctime>

#include <fmt/format.h>

#include "api/admission.h"
#include "api/error_body.h"
#include "base/json.h"

namespace pagemill::api {
namespace {

/// A stream whose reader is this far behind gets fewer, longer chunks.
constexpr size_t kMergeBytes = 64 << 10;

double seconds_since(TimeNs then, TimeNs now) { return static_cast<double>(now - then) / static_cast<double>(kNsPerSecond); }

void append_item(std::string& list, std::string_view item) {
  if (!list.empty()) list += ',';
  list += item;
}

/// The stop string or stop token of the request that ended the answer; null for the model's own end.
std::string stop_reason_json(const ChoiceFinished& end, const std::vector<int32_t>& stop_tokens) {
  if (!end.stop_string.empty()) return json_quote(end.stop_string);
  const bool asked_for = std::find(stop_tokens.begin(), stop_tokens.end(), end.stop_token) != stop_tokens.end();
  return asked_for ? std::to_string(end.stop_token) : "null";
}

}  // namespace

Generation::Generation(GenerationKind kind, std::shared_ptr<Serving> serving, std::shared_ptr<Exchange> exchange, std::shared_ptr<const TextModel> text,
                       GenerationBody body)
    : kind_(kind), serving_(std::move(serving)), exchange_(std::move(exchange)), text_(std::move(text)), body_(std::move(body)),
      names_{*text_, body_.return_tokens_as_ids}, created_s_(std::time(nullptr)), started_ns_(SteadyClock::instance().now_ns()) {
  const bool chat = kind_ == GenerationKind::chat;
  // As in vLLM the header wins over the field.
  const std::string& of_header = exchange_->admission().request_id;
  const bool by_field = is_harmless_id(body_.request_id) && exchange_->request().header("X-Request-Id") != of_header;
  id_ = (chat ? "chatcmpl-" : "cmpl-") + (by_field ? body_.request_id : of_header);
  head_ = fmt::format(R"({{"id":{},"object":"{}","created":{},"model":{},"choices":[)", json_quote(id_),
                      chat ? (body_.stream ? "chat.completion.chunk" : "chat.completion") : "text_completion", created_s_,
                      json_quote(body_.model.empty() ? serving_->options.model_names.front() : body_.model));
}

void Generation::start(std::vector<PreparedRequest> prepared) {
  const int io_thread = exchange_->io_thread();
  choices_.resize(prepared.size() * static_cast<size_t>(body_.sampling.n));
  if (kind_ == GenerationKind::completion && body_.completion_logprobs)
    for (Choice& choice : choices_) choice.completion_logprobs.emplace(names_);
  slots_.resize(prepared.size());
  slots_left_ = slots_.size();
  for (size_t s = 0; s < prepared.size(); ++s) {
    Slot& slot = slots_[s];
    slot.prompt_tokens = static_cast<int64_t>(prepared[s].prompt_tokens.size());
    slot.user_data = serving_->pump.add(io_thread, shared_from_this(), s);
    auto session = Session::start(serving_->engine, *text_, std::move(prepared[s]), serving_->pump.queue(io_thread), slot.user_data);
    if (!session) return fail(session.error());
    slot.session = std::move(*session);
    serving_->metrics.count_started(body_.sampling.n, body_.sampling.max_tokens.value_or(0));
  }
  exchange_->on_disconnect([weak = weak_from_this()] {
    if (const auto self = weak.lock()) self->abandon();
  });
}

void Generation::on_event(size_t s, EngineEvent event) {
  if (!exchange_ || !slots_[s].session) return;
  const auto self = shared_from_this();  // ending it drops the pump's reference
  scratch_.clear();
  slots_[s].session->on_event(std::move(event), scratch_);
  std::vector<SessionEvent> events = std::move(scratch_);
  for (SessionEvent& one : events) {
    if (!exchange_) break;
    std::visit([&](auto& body) {
      if constexpr (!std::is_same_v<std::decay_t<decltype(body)>, SessionEmbeddingEvent>) take(s, std::move(body));
    }, one);
  }
  scratch_ = std::move(events);
}

void Generation::observe_tokens(Choice& choice, size_t tokens) {
  if (tokens == 0) return;
  const TimeNs now = SteadyClock::instance().now_ns();
  if (first_token_) serving_->metrics.time_to_first_token.observe(seconds_since(started_ns_, now));
  first_token_ = false;
  if (choice.last_token_ns > 0) serving_->metrics.inter_token_latency.observe(seconds_since(choice.last_token_ns, now) / static_cast<double>(tokens), tokens);
  choice.last_token_ns = now;
  choice.output_tokens += static_cast<int64_t>(tokens);
}

void Generation::take(size_t s, TextEvent event) {
  const size_t index = choice_index(s, event.choice);
  Choice& choice = choices_[index];
  observe_tokens(choice, event.tokens.size());
  choice.text += event.text;
  if (body_.return_token_ids) choice.tokens.insert(choice.tokens.end(), event.tokens.begin(), event.tokens.end());
  for (const TokenLogprob& logprob : event.logprobs) {
    if (choice.completion_logprobs) choice.completion_logprobs->add(logprob);
    else if (body_.chat_logprobs) append_item(choice.logprobs, chat_logprob_json(logprob, names_));
  }
  if (!body_.stream) return;
  begin_stream();
  const bool news = !choice.text.empty() || !choice.tokens.empty() || !choice.logprobs.empty() || (choice.completion_logprobs && !choice.completion_logprobs->empty());
  if (news && exchange_ && exchange_->buffered_bytes() < kMergeBytes) emit(index, false);
}

void Generation::take(size_t s, PromptEvent event) {
  Slot& slot = slots_[s];
  const std::vector<int32_t>& prompt = slot.session->prepared().prompt_tokens;
  const bool first = slot.prompt_logprobs.empty();
  if (first) slot.prompt_logprobs = "null";
  for (const TokenLogprob& logprob : event.logprobs) append_item(slot.prompt_logprobs, prompt_logprob_json(logprob, names_));
  if (!body_.echo) return;
  for (int32_t c = 0; c < body_.sampling.n; ++c) {
    Choice& choice = choices_[choice_index(s, c)];
    if (!choice.completion_logprobs) continue;
    if (first && !prompt.empty()) choice.completion_logprobs->add_unscored(prompt.front());
    for (const TokenLogprob& logprob : event.logprobs) choice.completion_logprobs->add(logprob);
  }
}

void Generation::take(size_t s, ChoiceFinished event) {
  const size_t index = choice_index(s, event.choice);
  Choice& choice = choices_[index];
  choice.finished = true;
  choice.end = std::move(event);
  const bool answered = choice.end.reason == FinishReason::stop || choice.end.reason == FinishReason::length;
  if (!body_.stream || !answered) return;  // what went wrong comes with the session's end
  begin_stream();
  if (exchange_) emit(index, true);
}

void Generation::take(size_t s, SessionEnd event) {
  Slot& slot = slots_[s];
  slot.ended = true;
  slot.usage = event.usage;
  serving_->pump.remove(exchange_->io_thread(), slot.user_data);
  serving_->metrics.count_finished(event.reason, event.usage, seconds_since(started_ns_, SteadyClock::instance().now_ns()));
  if (event.reason == FinishReason::error) return fail(event.error);
  if (event.reason == FinishReason::deadline) return fail({ErrorCode::deadline_exceeded, "the request's time was up before its answer was complete.", ""});
  if (event.reason == FinishReason::cancelled) return fail({ErrorCode::unavailable, "the request was cancelled by the server.", ""});
  if (--slots_left_ > 0) return;
  if (body_.stream) finish_stream();
  else send_whole();
}

// ---- streams ----

/// The status is 200 from here on; until here an error still has a status of its own.
void Generation::begin_stream() {
  if (!exchange_ || exchange_->started()) return;
  exchange_->start_events();
  if (kind_ != GenerationKind::chat) return;
  for (size_t i = 0; i < choices_.size(); ++i)
    write(fmt::format(R"({{"index":{},"delta":{{"role":"assistant","content":""}},"logprobs":null,"finish_reason":null}})", i),
          body_.return_token_ids ? prompt_tokens_json(0) : "");
}

void Generation::emit(size_t index, bool last) { write(delta_json(index, choices_[index], last)); }

std::string Generation::take_logprobs(Choice& choice) {
  if (choice.completion_logprobs) return choice.completion_logprobs->empty() ? "null" : choice.completion_logprobs->take();
  if (choice.logprobs.empty()) return "null";
  return R"({"content":[)" + std::exchange(choice.logprobs, {}) + "]}";
}

std::string Generation::delta_json(size_t index, Choice& choice, bool last) {
  std::string out = fmt::format(R"({{"index":{},)", index);
  const std::string text = json_quote(choice.text);
  if (kind_ == GenerationKind::chat) out.append(R"("delta":{"content":)").append(text).append("}");
  else out.append(R"("text":)").append(text);
  out.append(R"(,"logprobs":)").append(take_logprobs(choice)).append(R"(,"finish_reason":)").append(last ? finish_reason_json(choice.end.reason) : "null");
  if (last) out.append(R"(,"stop_reason":)").append(stop_reason_json(choice.end, body_.sampling.stop_token_ids));
  if (body_.return_token_ids) out.append(R"(,"token_ids":)").append(token_ids_json(choice.tokens));
  if (body_.return_token_ids && kind_ == GenerationKind::completion && !std::exchange(choice.begun, true)) out += prompt_tokens_json(index / static_cast<size_t>(body_.sampling.n));
  choice.text.clear();
  choice.tokens.clear();
  return out += "}";
}

/// One chunk with one choice, and fields beside the choices.
void Generation::write(std::string_view choice, std::string_view more) {
  if (!exchange_) return;
  std::string frame = "data: ";
  frame.append(head_).append(choice).append("]").append(more);
  if (body_.continuous_usage && body_.include_usage) {
    int64_t prompt = 0, output = 0;
    for (const Slot& slot : slots_) prompt += slot.prompt_tokens;
    for (const Choice& one : choices_) output += one.output_tokens;
    frame.append(R"(,"usage":)").append(usage_json(prompt, output, 0));
  } else if (body_.include_usage) {
    frame.append(R"(,"usage":null)");
  }
  frame += "}\n\n";
  if (!exchange_->write(frame)) abandon();
}

void Generation::finish_stream() {
  begin_stream();
  if (!exchange_) return;
  if (body_.include_usage) exchange_->write(fmt::format("data: {}],\"usage\":{}}}\n\n", head_, total_usage_json()));
  exchange_->write("data: [DONE]\n\n");
  exchange_->finish();
  exchange_.reset();
}

// ---- whole answers ----

std::string Generation::prompt_tokens_json(size_t slot) const { return R"(,"prompt_token_ids":)" + token_ids_json(slots_[slot].session->prepared().prompt_tokens); }

std::string Generation::total_usage_json() const {
  int64_t prompt = 0, output = 0, cached = 0;
  for (const Slot& slot : slots_) {
    prompt += slot.prompt_tokens;
    output += slot.usage.output_tokens;
    cached += slot.usage.cached_tokens;
  }
  return usage_json(prompt, output, cached);
}

std::string Generation::whole_choice_json(size_t index, Choice& choice) {
  const Slot& slot = slots_[index / static_cast<size_t>(body_.sampling.n)];
  std::string out = fmt::format(R"({{"index":{},)", index);
  if (kind_ == GenerationKind::chat) out.append(R"("message":{"role":"assistant","content":)").append(json_quote(choice.text)).append(R"(,"refusal":null})");
  else out.append(R"("text":)").append(json_quote(choice.text));
  out.append(R"(,"logprobs":)").append(take_logprobs(choice)).append(R"(,"finish_reason":)").append(finish_reason_json(choice.end.reason));
  out.append(R"(,"stop_reason":)").append(stop_reason_json(choice.end, body_.sampling.stop_token_ids));
  if (body_.return_token_ids) {
    out.append(R"(,"token_ids":)").append(token_ids_json(choice.tokens));
    if (kind_ == GenerationKind::completion) out += prompt_tokens_json(index / static_cast<size_t>(body_.sampling.n));
  }
  if (kind_ == GenerationKind::completion && body_.sampling.prompt_logprobs >= 0) out.append(R"(,"prompt_logprobs":[)").append(slot.prompt_logprobs).append("]");
  return out += "}";
}

void Generation::send_whole() {
  std::string body = head_;
  for (size_t i = 0; i < choices_.size(); ++i) {
    if (i > 0) body += ',';
    body += whole_choice_json(i, choices_[i]);
  }
  body.append(R"(],"usage":)").append(total_usage_json());
  if (kind_ == GenerationKind::chat) {
    if (body_.sampling.prompt_logprobs >= 0) body.append(R"(,"prompt_logprobs":[)").append(slots_[0].prompt_logprobs).append("]");
    if (body_.return_token_ids) body += prompt_tokens_json(0);
  }
  body += "}";
  exchange_->send_json(std::move(body));
  exchange_.reset();
}

// ---- ends ----

void Generation::fail(const Error& error) {
  const std::shared_ptr<Exchange> exchange = exchange_;
  abandon();
  if (!exchange) return;
  if (!exchange->started()) return exchange->fail(error);
  exchange->write("data: " + error_json(error) + "\n\ndata: [DONE]\n\n");
  exchange->finish();
}

/// Nobody wants the answer any more, or it failed: withdraws what is under way.
void Generation::abandon() {
  if (!exchange_) return;
  const auto self = shared_from_this();
  const int io_thread = exchange_->io_thread();
  for (Slot& slot : slots_) {
    if (slot.user_data) serving_->pump.remove(io_thread, slot.user_data);
    if (slot.session && !slot.ended) serving_->metrics.count_finished(FinishReason::cancelled, {}, seconds_since(started_ns_, SteadyClock::instance().now_ns()));
    slot.session.reset();  // cancels
  }
  exchange_.reset();
}

}  // namespace pagemill::api
