#include <openssl/sha.h>

#include <cstring>
#include <mutex>
#include <set>

#include <fmt/format.h>

#include "api/error_body.h"
#include "api/generation.h"
#include "api/requests.h"
#include "api/serving.h"
#include "base/log.h"
#include "text/tokenizer.h"

namespace pagemill::api {
namespace {

using ServingPtr = std::shared_ptr<Serving>;
using ExchangePtr = std::shared_ptr<Exchange>;

/// A body read by `read` and the model it is for.
template <class Body>
struct Asked {
  Body body;
  std::shared_ptr<const TextModel> text;
  EngineModelInfo model;
};

template <class Body, class Read>
Result<Asked<Body>> read_request(const Serving& serving, Exchange& exchange, Read read) {
  PM_ASSIGN(const json::value parsed, parse_json(exchange.request().body));
  exchange.request().body = {};
  std::vector<std::string> unknown;
  PM_ASSIGN(Body body, read(parsed, unknown));
  log_unknown_fields(unknown);
  PM_TRY(serving.check_model(body.model));
  PM_ASSIGN(EngineModelInfo model, serving.model_info());
  return Asked<Body>{std::move(body), serving.text(), std::move(model)};
}

Result<void> check_tokens(const std::vector<int32_t>& tokens, const EngineModelInfo& model, std::string_view field) {
  for (const int32_t token : tokens)
    if (token >= model.vocab)
      return fail(ErrorCode::invalid_argument, fmt::format("'{}' has token id {}, which is outside the vocabulary of {} tokens.", field, token, model.vocab), std::string(field));
  return {};
}

/// Everything of a request that all its prompts share.
SessionRequest common_request(const GenerationBody& body, const Principal& principal) {
  SessionRequest request;
  request.sampling = body.sampling;
  request.default_max_tokens = body.default_max_tokens;
  request.stop = body.stop;
  request.include_stop = body.include_stop;
  request.bad_words = body.bad_words;
  request.skip_special_tokens = body.skip_special_tokens;
  request.echo = body.echo;
  request.tenant = principal.tenant;
  request.cache_salt = salt_of(body.cache_salt) ^ principal.tenant;
  request.priority = body.priority;
  return request;
}

/// On the pool: template, tokens, ranges.
Result<std::vector<PreparedRequest>> prepare_all(GenerationKind kind, Asked<GenerationBody>& asked, const Principal& principal) {
  GenerationBody& body = asked.body;
  if (body.tool_choice == "none") body.chat.tools.clear();
  std::vector<PreparedRequest> prepared;
  const size_t count = kind == GenerationKind::chat ? 1 : body.prompts.size();
  for (size_t i = 0; i < count; ++i) {
    SessionRequest request = common_request(body, principal);
    if (kind == GenerationKind::chat) request.prompt = std::move(body.chat);
    else std::visit([&](auto& prompt) { request.prompt = std::move(prompt); }, body.prompts[i]);
    PM_ASSIGN(PreparedRequest one, prepare(*asked.text, asked.model, std::move(request)));
    prepared.push_back(std::move(one));
  }
  return prepared;
}

void serve_generation(GenerationKind kind, const ServingPtr& serving, const ExchangePtr& exchange) {
  run_on_pool(serving, exchange, [kind, serving, exchange] {
    const SamplingDefaults& defaults = serving->options.sampling;
    auto asked = read_request<GenerationBody>(*serving, *exchange, [&](const json::value& body, std::vector<std::string>& unknown) {
      return kind == GenerationKind::chat ? read_chat_body(body, defaults, unknown) : read_completion_body(body, defaults, unknown);
    });
    if (!asked) return exchange->fail(asked.error());
    auto prepared = prepare_all(kind, *asked, exchange->principal());
    if (!prepared) return exchange->fail(prepared.error());
    auto generation = std::make_shared<Generation>(kind, serving, exchange, asked->text, std::move(asked->body));
    serving->post(exchange->io_thread(), [generation, prompts = std::make_shared<std::vector<PreparedRequest>>(std::move(*prepared))] { generation->start(std::move(*prompts)); });
  });
}

/// The vectors of one embedding request. Lives on its exchange's io thread.
class Embedding final : public EventSink, public std::enable_shared_from_this<Embedding> {
 public:
  Embedding(ServingPtr serving, ExchangePtr exchange, std::shared_ptr<const TextModel> text, EmbeddingBody body)
      : serving_(std::move(serving)), exchange_(std::move(exchange)), text_(std::move(text)), body_(std::move(body)), started_ns_(SteadyClock::instance().now_ns()) {}

  void start(std::vector<PreparedRequest> prompts) {
    left_ = prompts.size();
    slots_.resize(prompts.size());
    for (size_t s = 0; s < prompts.size(); ++s) {
      slots_[s].user_data = serving_->pump.add(exchange_->io_thread(), shared_from_this(), s);
      auto session = Session::start(serving_->engine, *text_, std::move(prompts[s]), serving_->pump.queue(exchange_->io_thread()), slots_[s].user_data);
      if (!session) return fail(session.error());
      slots_[s].session = std::move(*session);
    }
    exchange_->on_disconnect([weak = weak_from_this()] {
      if (const auto self = weak.lock()) self->abandon();
    });
  }

  void on_event(size_t s, EngineEvent event) override {
    if (!exchange_ || !slots_[s].session) return;
    const auto self = shared_from_this();
    std::vector<SessionEvent> events;
    slots_[s].session->on_event(std::move(event), events);
    for (SessionEvent& one : events) {
      if (auto* embedding = std::get_if<SessionEmbeddingEvent>(&one)) slots_[s].values = std::move(embedding->values);
      if (const auto* end = std::get_if<SessionEnd>(&one)) return on_end(slots_[s], *end);
    }
  }

 private:
  struct Slot {
    std::unique_ptr<Session> session;
    uint64_t user_data = 0;
    std::vector<float> values;
  };

  void on_end(Slot& slot, const SessionEnd& end) {
    serving_->pump.remove(exchange_->io_thread(), slot.user_data);
    serving_->metrics.count_finished(end.reason, end.usage, static_cast<double>(SteadyClock::instance().now_ns() - started_ns_) / kNsPerSecond);
    prompt_tokens_ += static_cast<int64_t>(slot.session->prepared().prompt_tokens.size());
    if (end.reason == FinishReason::error) return fail(end.error);
    if (slot.values.empty()) return fail({ErrorCode::unavailable, "the request was cancelled by the server.", ""});
    if (--left_ == 0) send();
  }

  void send() {
    std::string data;
    for (size_t s = 0; s < slots_.size(); ++s)
      data += fmt::format(R"({}{{"object":"embedding","index":{},"embedding":{}}})", s ? "," : "", s, vector_json(slots_[s].values));
    exchange_->send_json(fmt::format(R"({{"object":"list","id":"embd-{}","model":{},"data":[{}],"usage":{{"prompt_tokens":{},"total_tokens":{}}}}})", exchange_->admission().request_id,
                                     json_quote(serving_->options.model_names.front()), data, prompt_tokens_, prompt_tokens_));
    exchange_.reset();
  }

  std::string vector_json(const std::vector<float>& values) const {
    if (!body_.base64) return fmt::format("[{}]", fmt::join(values, ","));
    static constexpr char kDigits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    std::string bytes(values.size() * sizeof(float), '\0');
    std::memcpy(bytes.data(), values.data(), bytes.size());
    std::string out = "\"";
    for (size_t i = 0; i < bytes.size(); i += 3) {
      uint32_t group = 0;
      for (size_t k = 0; k < 3; ++k) group = group << 8 | (i + k < bytes.size() ? static_cast<unsigned char>(bytes[i + k]) : 0u);
      for (size_t k = 0; k < 4; ++k) out += i + k <= bytes.size() ? kDigits[group >> (18 - 6 * k) & 63] : '=';
    }
    return out += '"';
  }

  void fail(const Error& error) {
    const ExchangePtr exchange = exchange_;
    abandon();
    exchange->fail(error);
  }

  void abandon() {
    if (!exchange_) return;
    const auto self = shared_from_this();
    for (Slot& slot : slots_) {
      if (slot.user_data) serving_->pump.remove(exchange_->io_thread(), slot.user_data);
      slot.session.reset();  // cancels
    }
    exchange_.reset();
  }

  const ServingPtr serving_;
  ExchangePtr exchange_;
  const std::shared_ptr<const TextModel> text_;
  const EmbeddingBody body_;
  const TimeNs started_ns_;
  std::vector<Slot> slots_;
  size_t left_ = 0;
  int64_t prompt_tokens_ = 0;
};

Result<std::vector<PreparedRequest>> embedding_prompts(Asked<EmbeddingBody>& asked, const Principal& principal) {
  std::vector<PreparedRequest> prepared;
  for (Prompt& input : asked.body.inputs) {
    SessionRequest request;
    request.embedding = true;
    request.tenant = request.cache_salt = principal.tenant;
    std::visit([&](auto& prompt) { request.prompt = std::move(prompt); }, input);
    auto one = prepare(*asked.text, asked.model, std::move(request));
    if (!one && one.error().field == "prompt") one.error().field = "input";
    if (!one) return tl::unexpected(std::move(one).error());
    prepared.push_back(std::move(*one));
  }
  return prepared;
}

Result<std::string> tokenize(const Asked<TokenizeBody>& asked) {
  std::vector<int32_t> tokens;
  if (asked.body.prompt) {
    const Tokenizer& tokenizer = asked.text->tokenizer();
    PM_ASSIGN(tokens, asked.body.add_special_tokens ? tokenizer.encode_prompt(*asked.body.prompt) : tokenizer.encode(*asked.body.prompt));
  } else {
    const ChatPrompt& chat = *asked.body.chat;
    PM_ASSIGN(tokens, asked.text->render_chat(chat.messages, chat.tools, chat.template_arguments, chat.add_generation_prompt, chat.continue_final_message));
  }
  std::string strings = "null";
  if (asked.body.return_token_strings) {
    strings = "[";
    for (const int32_t token : tokens) strings.append(strings.size() > 1 ? "," : "").append(json_quote(asked.text->tokenizer().token_bytes(token)));
    strings += "]";
  }
  return fmt::format(R"({{"count":{},"max_model_len":{},"tokens":{},"token_strs":{}}})", tokens.size(), asked.model.context_max, token_ids_json(tokens), strings);
}

}  // namespace

Result<EngineModelInfo> Serving::model_info() const {
  const EngineStats stats = engine.stats();
  const std::vector<EngineModelInfo> models = engine.models();
  if (stats.state == EngineState::failed) return fail(ErrorCode::internal, "the model could not be loaded; the server's log says why.");
  if (models.empty() || !text() || stats.state == EngineState::loading)
    return fail(ErrorCode::unavailable, fmt::format("the model is loading: {} {:.0f} %. Try again later.", stats.load_phase.empty() ? "starting" : stats.load_phase, stats.load_progress * 100));
  if (stats.state == EngineState::draining) return fail(ErrorCode::unavailable, "the server is shutting down.");
  return models.front();
}

Result<void> Serving::check_model(const std::string& name) const {
  if (name.empty()) return {};
  for (const std::string& known : options.model_names)
    if (known == name) return {};
  return fail(ErrorCode::not_found, fmt::format("The model `{}` does not exist.", name), "model");
}

void run_on_pool(const ServingPtr& serving, const ExchangePtr& exchange, std::function<void()> work) {
  if (!serving->pool.submit(std::move(work)))
    exchange->fail({ErrorCode::resource_exhausted, "too many requests are waiting to be read; try again later.", ""});
}

void log_unknown_fields(const std::vector<std::string>& names) {
  static std::mutex mutex;
  static std::set<std::string> seen;
  constexpr size_t kNamesMax = 100, kNameBytesMax = 64;  // a client chooses the names
  for (const std::string& name : names) {
    std::lock_guard lock(mutex);
    if (seen.size() >= kNamesMax || name.size() > kNameBytesMax || !seen.insert(name).second) continue;
    log_info("the request field {} is not known here and is ignored (said once)", json_quote(name));
  }
}

uint64_t salt_of(const std::string& name) {
  if (name.empty()) return 0;
  unsigned char digest[SHA256_DIGEST_LENGTH];
  SHA256(reinterpret_cast<const unsigned char*>(name.data()), name.size(), digest);
  uint64_t salt = 0;
  std::memcpy(&salt, digest, sizeof salt);
  return salt;
}

void serve_chat(const ServingPtr& serving, ExchangePtr exchange) { serve_generation(GenerationKind::chat, serving, exchange); }
void serve_completion(const ServingPtr& serving, ExchangePtr exchange) { serve_generation(GenerationKind::completion, serving, exchange); }

void serve_embeddings(const ServingPtr& serving, ExchangePtr exchange) {
  run_on_pool(serving, exchange, [serving, exchange] {
    auto asked = read_request<EmbeddingBody>(*serving, *exchange, read_embedding_body);
    if (!asked) return exchange->fail(asked.error());
    auto prompts = embedding_prompts(*asked, exchange->principal());
    if (!prompts) return exchange->fail(prompts.error());
    auto embedding = std::make_shared<Embedding>(serving, exchange, asked->text, std::move(asked->body));
    serving->post(exchange->io_thread(), [embedding, inputs = std::make_shared<std::vector<PreparedRequest>>(std::move(*prompts))] { embedding->start(std::move(*inputs)); });
  });
}

void serve_tokenize(const ServingPtr& serving, ExchangePtr exchange) {
  run_on_pool(serving, exchange, [serving, exchange] {
    auto asked = read_request<TokenizeBody>(*serving, *exchange, read_tokenize_body);
    if (!asked) return exchange->fail(asked.error());
    auto body = tokenize(*asked);
    if (!body) return exchange->fail(body.error());
    exchange->send_json(std::move(*body));
  });
}

void serve_detokenize(const ServingPtr& serving, ExchangePtr exchange) {
  run_on_pool(serving, exchange, [serving, exchange] {
    auto asked = read_request<DetokenizeBody>(*serving, *exchange, read_detokenize_body);
    if (!asked) return exchange->fail(asked.error());
    if (const auto checked = check_tokens(asked->body.tokens, asked->model, "tokens"); !checked) return exchange->fail(checked.error());
    exchange->send_json(fmt::format(R"({{"prompt":{}}})", json_quote(asked->text->tokenizer().decode(asked->body.tokens, true))));
  });
}

}  // namespace pagemill::api
