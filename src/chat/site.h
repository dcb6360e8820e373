// Site: the chat page's server side as one object: data, accounts, jobs, events, and the handlers that `serve` hangs beside the API.
//
// Threads: handlers of the http server decide on an io thread by what is in memory (route, session, CSRF); everything else runs on pools. Order
// of the end: close(), then the http server, then the Site, then the engine.
#pragma once

#include <atomic>
#include <filesystem>
#include <memory>
#include <string>
#include <thread>

#include "api/auth.h"
#include "base/worker_pool.h"
#include "chat/accounts.h"
#include "chat/call.h"
#include "chat/event_hub.h"
#include "chat/login_throttle.h"
#include "chat/store.h"
#include "engine/handle.h"
#include "http/server.h"
#include "sample/params.h"

namespace pagemill {
class TextModel;
}

namespace pagemill::chat {

class Documents;
class Jobs;
class Monitor;

enum class AuthMode : uint8_t { accounts, none };

struct SiteOptions {
  AuthMode auth = AuthMode::accounts;
  std::filesystem::path data_dir;
  std::optional<Signup> signup;              // none = what an admin has set, at first closed
  std::vector<std::string> model_names;      // the first is reported
  SamplingDefaults sampling;                 // where these are silent: page_sampling (prompt.h)
  std::string root_path;
  std::string version;
  std::filesystem::path extractor = "/proc/self/exe";   // run as `EXTRACTOR extract-document …`
  int worker_threads = 2;
  int64_t deleted_kept_ms = 86'400'000;      // how long a deletion can be undone
};

struct Site {
  static Result<std::unique_ptr<Site>> open(SiteOptions options, EngineHandle& engine);
  ~Site();

  /// For the http server: decides with the head, answers the request.
  std::optional<http::Response> on_head(http::Request& request);
  void on_request(http::Request request, std::shared_ptr<http::Responder> responder);
  /// Once the tokenizer is there; from then on messages are answered.
  void set_text(std::shared_ptr<const TextModel> text);
  std::shared_ptr<const TextModel> text() const;
  /// The one-time token for the first account; empty where none is needed.
  std::string setup_token() const;
  int answers_under_way() const;
  /// Ends streams and jobs; nothing is answered any more.
  void close();

  /// Users' API keys beside `others`, for the API.
  std::unique_ptr<Authenticator> make_authenticator(std::unique_ptr<Authenticator> others, bool credential_needed);

  Signup signup() const { return signup_; }
  Outcome<void> set_signup(Signup signup);
  Outcome<void> use_setup_token(std::string_view token);
  /// The facts of the model, or 503 loading.
  Outcome<EngineModelInfo> model_info() const;
  std::string cookie_name(bool secure) const { return secure ? "__Host-pagemill_session" : "pagemill_session"; }
  std::optional<Identity> identity_of(const http::Request& request);

  const SiteOptions options;
  EngineHandle& engine;
  std::unique_ptr<Store> store;
  std::unique_ptr<Accounts> accounts;
  EventHub hub;
  LoginThrottle throttle{SteadyClock::instance()};
  std::unique_ptr<Jobs> jobs;
  std::unique_ptr<Documents> documents;
  std::unique_ptr<Monitor> monitor;
  std::unique_ptr<WorkerPool> pool, password_pool;

 private:
  Site(SiteOptions options_of, EngineHandle& engine_of);
  Result<void> start();
  void run_housekeeping();
  void purge();

  std::atomic<Signup> signup_{Signup::closed};
  mutable std::mutex mutex_;
  std::string setup_hash_, setup_token_;     // under mutex_; empty once used
  std::string local_csrf_;
  std::shared_ptr<const TextModel> text_;    // under mutex_
  std::condition_variable wake_;
  bool closing_ = false;                     // under mutex_
  std::thread housekeeper_;
};

/// GET of the page itself. Any thread.
http::Response serve_page(const Site& site, const http::Request& request);

}  // namespace pagemill::chat
