#include "chat/site.h"

#include <sodium.h>

#include <fmt/format.h>

#include "base/log.h"
#include "chat/admission.h"
#include "chat/conversations.h"
#include "chat/documents.h"
#include "chat/ids.h"
#include "chat/jobs.h"
#include "chat/key_authenticator.h"
#include "chat/monitor.h"
#include "chat/prompt.h"
#include "chat/titles.h"
#include "text/text_model.h"

namespace pagemill::chat {
namespace {

constexpr std::chrono::milliseconds kHousekeeping{1'000};
constexpr int kHeartbeatEvery = 15;      // of those
constexpr int kPurgeEvery = 60;
constexpr size_t kPasswordsQueued = 32, kWorkQueued = 1'024;

/// Other work of the server takes the cores; checking passwords is one thread's.
std::unique_ptr<WorkerPool> make_password_pool() { return std::make_unique<WorkerPool>(WorkerPoolOptions{.threads = 1, .queued_max = kPasswordsQueued}); }

}  // namespace

Result<std::unique_ptr<Site>> Site::open(SiteOptions options, EngineHandle& engine) {
  if (sodium_init() < 0) return fail(ErrorCode::internal, "libsodium could not be started");
  std::unique_ptr<Site> site(new Site(std::move(options), engine));
  PM_TRY(site->start());
  return site;
}

Result<void> Site::start() {
  const auto failed = [](const Problem& problem) { return fail(ErrorCode::io, problem.message, "data-dir"); };
  PM_ASSIGN(store, Store::open(options.data_dir));
  accounts = std::make_unique<Accounts>(*store);
  if (const auto loaded = accounts->load(); !loaded) return failed(loaded.error());
  const auto interrupted = store->write([](Database& db) { return rows::interrupt_open(db, now_ms()); });
  if (!interrupted) return failed(interrupted.error());
  if (*interrupted > 0) log_info("chat: {} answers were under way when the server ended; they are marked as interrupted", *interrupted);
  const auto policy = store->read([](Database& db) { return db.text("SELECT value FROM meta WHERE key = 'signup'"); });
  if (!policy) return tl::unexpected(policy.error());
  signup_ = options.signup ? *options.signup : parse_signup(policy->value_or("closed")).value_or(Signup::closed);
  if (options.auth == AuthMode::none) {
    if (const auto user = accounts->local_user(); !user) return failed(user.error());
    local_csrf_ = new_id();
  } else if (accounts->setup_needed()) {
    setup_token_ = new_secret();
    setup_hash_ = sha256(setup_token_);
  }
  accounts->on_sessions_end([this](const std::vector<std::string>& ids) { hub.end_sessions(ids); });
  pool = std::make_unique<WorkerPool>(WorkerPoolOptions{.threads = options.worker_threads, .queued_max = kWorkQueued});
  password_pool = make_password_pool();
  jobs = std::make_unique<Jobs>(*store, hub, engine, [this](const JobEnd& end) { after_answer(*this, end); });
  documents = std::make_unique<Documents>(*this);
  monitor = std::make_unique<Monitor>(engine, hub);
  housekeeper_ = std::thread([this] { run_housekeeping(); });
  return {};
}

namespace {

SiteOptions with_page_sampling(SiteOptions options) {
  options.sampling = page_sampling(options.sampling);
  return options;
}

}  // namespace

Site::Site(SiteOptions options_of, EngineHandle& engine_of) : options(with_page_sampling(std::move(options_of))), engine(engine_of) {}
Site::~Site() { close(); }

void Site::close() {
  {
    std::lock_guard lock(mutex_);
    if (closing_) return;
    closing_ = true;
  }
  wake_.notify_all();
  if (housekeeper_.joinable()) housekeeper_.join();
  hub.close();
  if (documents) documents->close();
  if (jobs) jobs->close();
  if (password_pool) password_pool->stop();
  if (pool) pool->stop();
}

/// Wakes once a second: changes by `pagemill user`, sessions that ran out, heartbeats, samples.
void Site::run_housekeeping() {
  for (int beat = 0;; ++beat) {
    {
      std::unique_lock lock(mutex_);
      if (wake_.wait_for(lock, kHousekeeping, [&] { return closing_; })) return;
    }
    (void)accounts->reload_if_changed();
    monitor->sample();
    if (beat % kHeartbeatEvery == 0) hub.heartbeat();
    if (beat % kPurgeEvery == 0) purge();
  }
}

void Site::purge() {
  const auto purged = store->write([&](Database& db) -> Outcome<int> {
    PM_TRY(db.run("DELETE FROM sessions WHERE last_used_ms < ? OR created_ms < ?", now_ms() - kSessionIdleMs, now_ms() - kSessionAgeMs));
    PM_TRY(db.run("DELETE FROM resets WHERE expires_ms < ?", now_ms()));
    return rows::purge(db, now_ms() - options.deleted_kept_ms);
  });
  if (!purged) log_warning("chat: what was deleted could not be removed: {}", purged.error().message);
  documents->remove_orphans();
}

// ---- requests ----

std::optional<http::Response> Site::on_head(http::Request& request) {
  Admitted admitted;
  if (request.path.starts_with(std::string(kApiPath) + "/")) {
    auto outcome = admit(*this, request);
    if (!outcome) return problem_response(outcome.error());
    admitted = std::move(*outcome);
  } else if (request.method != "GET" && request.method != "HEAD") {
    return serve_page(*this, request);
  }
  request.admission = std::move(admitted);
  return {};
}

namespace {

Outcome<json::object> read_body(const std::string& body) {
  auto parsed = parse_json(body);
  if (!parsed) return refuse(400, "invalid_json", parsed.error().message, parsed.error().field);
  if (!parsed->is_object()) return refuse(400, "invalid_json", "The body must be a JSON object.");
  return std::move(parsed->get_object());
}

void run_handler(const Route& route, Call& call) {
  if (route.body != BodyKind::none && call.request.body.size() > route.body_bytes_max) return answer(*call.responder, refuse(413, "too_large", fmt::format("The body has {} bytes; {} at most.", call.request.body.size(), route.body_bytes_max)));
  if (route.body == BodyKind::json) {
    auto body = read_body(call.request.body);
    if (!body) return answer(*call.responder, tl::unexpected(body.error()));
    call.body = std::move(*body);
    call.request.body.clear();
  }
  Outcome<Reply> outcome = route.handler(call);
  if (call.responder) answer(*call.responder, std::move(outcome));
}

}  // namespace

void Site::on_request(http::Request request, std::shared_ptr<http::Responder> responder) {
  Admitted admitted = std::any_cast<Admitted&&>(std::move(request.admission));
  if (!admitted.route) return responder->send(serve_page(*this, request));
  const Route& route = *admitted.route;
  auto call = std::make_shared<Call>(Call{*this, std::move(request), std::move(responder), std::move(admitted.identity), std::move(admitted.ids), {}});
  WorkerPool& where = route.pool == Pool::passwords ? *password_pool : *pool;
  if (!where.submit([&route, call] { run_handler(route, *call); })) answer(*call->responder, refuse(429, "queue_full", "Too many requests are waiting; try again."));
}

std::optional<Identity> Site::identity_of(const http::Request& request) {
  if (options.auth == AuthMode::none) {
    auto user = accounts->user(std::string(kLocalUserId));
    if (!user) return std::nullopt;
    return Identity{std::move(*user), "local", local_csrf_};
  }
  for (const bool secure : {true, false})
    if (const std::string_view token = cookie_value(request, cookie_name(secure)); !token.empty()) return accounts->by_session_token(token);
  return std::nullopt;
}

// ---- state ----

void Site::set_text(std::shared_ptr<const TextModel> text) {
  {
    std::lock_guard lock(mutex_);
    text_ = std::move(text);
  }
  documents->count_tokens_of_waiting();
  hub.publish_all("changed", json::object{{"what", "models"}});
}

std::shared_ptr<const TextModel> Site::text() const {
  std::lock_guard lock(mutex_);
  return text_;
}

Outcome<EngineModelInfo> Site::model_info() const {
  const EngineStats stats = engine.stats();
  const std::vector<EngineModelInfo> models = engine.models();
  if (stats.state == EngineState::failed) return refuse(503, "loading", "The model could not be loaded; the server's log says why.");
  if (stats.state == EngineState::draining) return refuse(503, "shutting_down", "The server is shutting down.");
  if (models.empty() || !text() || stats.state == EngineState::loading)
    return refuse(503, "loading", fmt::format("The model is loading: {} {:.0f} %.", stats.load_phase.empty() ? "starting" : stats.load_phase, stats.load_progress * 100));
  return models.front();
}

int Site::answers_under_way() const { return static_cast<int>(jobs->running()); }

std::string Site::setup_token() const {
  std::lock_guard lock(mutex_);
  return setup_token_;
}

/// Right for as long as no account exists; create_first() sees to it that only one of several users of the link wins.
Outcome<void> Site::use_setup_token(std::string_view token) {
  std::lock_guard lock(mutex_);
  if (setup_hash_.empty() || !same_secret(sha256(token), setup_hash_)) return refuse(401, "token_invalid", "This setup link is not valid any more: use the one that the last start of the server has printed.", "token");
  return {};
}

Outcome<void> Site::set_signup(Signup signup) {
  auto written = store->write([&](Database& db) -> Outcome<void> {
    PM_TRY(db.run("INSERT INTO meta(key, value) VALUES('signup', ?) ON CONFLICT(key) DO UPDATE SET value = excluded.value", to_string(signup)));
    return {};
  });
  PM_TRY(std::move(written));
  signup_ = signup;
  return {};
}

std::unique_ptr<Authenticator> Site::make_authenticator(std::unique_ptr<Authenticator> others, bool credential_needed) { return make_key_authenticator(*accounts, std::move(others), credential_needed); }

}  // namespace pagemill::chat
