#include "cli/serve.h"

#include <arpa/inet.h>
#include <sys/resource.h>

#include <atomic>
#include <csignal>
#include <cstdio>
#include <thread>

#include <fmt/format.h>

#include "api/api.h"
#include "api/error_body.h"
#include "base/log.h"
#include "base/machine.h"
#include "format/catalogue.h"
#include "format/gguf.h"

namespace pagemill {
namespace {

constexpr TimeNs kPollNs = 10 * kNsPerMs;          // while loading and draining
constexpr TimeNs kStatsNs = 10 * kNsPerSecond;     // vLLM's interval

double seconds_between(TimeNs from, TimeNs to) { return static_cast<double>(to - from) / static_cast<double>(kNsPerSecond); }
TimeNs now_ns() { return SteadyClock::instance().now_ns(); }

/// SIGINT and SIGTERM are waited for instead of handled; every thread started afterwards leaves them to this one.
class Signals {
 public:
  Signals() {
    sigemptyset(&set_);
    sigaddset(&set_, SIGINT);
    sigaddset(&set_, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &set_, &before_);
    std::signal(SIGPIPE, SIG_IGN);
  }
  ~Signals() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
  /// True if a signal came within that time.
  bool wait(TimeNs timeout_ns) {
    const timespec timeout{timeout_ns / kNsPerSecond, timeout_ns % kNsPerSecond};
    return sigtimedwait(&set_, nullptr, &timeout) > 0;
  }

 private:
  sigset_t set_, before_;
};

/// Each connection takes a file descriptor; the usual soft limit of 1,024 is far below connections_max.
void raise_file_limit() {
  rlimit files{};
  if (getrlimit(RLIMIT_NOFILE, &files) != 0) return;
  files.rlim_cur = files.rlim_max;
  setrlimit(RLIMIT_NOFILE, &files);
}

/// Everything of a running server; members are destroyed in reverse.
struct Running {
  std::unique_ptr<WeightSource> source;    // the text model's vocabulary
  MetricRegistry registry;
  std::unique_ptr<EngineHandle> engine;
  std::unique_ptr<chat::Site> site;        // null without the chat page
  std::unique_ptr<Authenticator> authenticator;
  std::unique_ptr<api::Api> the_api;
  std::unique_ptr<http::Server> server;
  std::thread text_loader;
  std::atomic<bool> text_loaded{false};
  TimeNs text_ns = 0;                      // what that took; written before text_loaded
  std::mutex text_mutex;
  std::optional<Error> text_error;         // under text_mutex

  ~Running() {
    if (text_loader.joinable()) text_loader.join();
    if (site) site->close();
    if (the_api) the_api->close();
  }
};

/// Tokenizer and template are made beside the weights.
void load_text(Running& running, Result<std::unique_ptr<WeightSource>> source, const std::string& chat_template) {
  const TimeNs started_ns = now_ns();
  auto text = source ? TextModel::from_source(**source, chat_template) : tl::unexpected(source.error());
  if (!text) {
    std::lock_guard lock(running.text_mutex);
    running.text_error = text.error();
    return;
  }
  running.source = std::move(*source);
  std::shared_ptr<const TextModel> shared = std::move(*text);
  if (running.site) running.site->set_text(shared);
  running.the_api->set_text(std::move(shared));
  running.text_ns = now_ns() - started_ns;
  running.text_loaded = true;
}

std::optional<Error> load_error(Running& running) {
  const EngineStats stats = running.engine->stats();
  if (stats.state == EngineState::failed) return stats.failure;
  std::lock_guard lock(running.text_mutex);
  return running.text_error;
}

/// How long the model took to load, and each of its phases as far as it was seen.
struct LoadTimes {
  TimeNs model_ns = 0;
  std::vector<std::pair<std::string, TimeNs>> phases;
};

void print_ready(const Running& running, const ServeOptions& options, const std::string& url, TimeNs started_ns, const LoadTimes& times) {
  const EngineModelInfo model = running.engine->models().front();
  const std::string key = options.keys.empty() ? "" : " -H 'Authorization: Bearer YOUR_KEY'";
  std::string phases;
  for (const auto& [phase, ns] : times.phases) phases += fmt::format("{}{} {:.2f} s", phases.empty() ? " (" : ", ", phase, seconds_between(0, ns));
  if (!phases.empty()) phases += ")";
  fmt::print("Ready after {:.2f} s: {} with a context of {} tokens.\nTime: model {:.2f} s{}, beside it tokenizer and template {:.2f} s.\n\n"
             "  curl {}/v1/chat/completions{} -H 'Content-Type: application/json' \\\n"
             "    -d '{{\"messages\":[{{\"role\":\"user\",\"content\":\"Why is the sky blue?\"}}]}}'\n\n",
             seconds_between(started_ns, now_ns()), options.api.model_names.front(), model.context_max, seconds_between(0, times.model_ns), phases, seconds_between(0, running.text_ns),
             url, key);
  std::fflush(stdout);
}

/// Where people go: with the one-time token for the first account on this machine; elsewhere it is made by a command.
void print_page(const Running& running, const ServeOptions& options, const std::string& url) {
  if (!running.site) return;
  const std::string token = running.site->setup_token();
  if (token.empty()) std::printf("Chat: %s/\n", url.c_str());
  else if (is_loopback(options.http.host)) std::printf("Chat: open %s/#setup=%s\n      to make the first account; the link works once. (--auth none: no accounts, for one person)\n", url.c_str(), token.c_str());
  else std::printf("Chat: %s/\n      Make the first account with: pagemill user add --role admin you@example.org\n", url.c_str());
  std::fflush(stdout);
}

/// The chat page's side. A default data folder that another server uses is no reason not to serve the API.
Result<void> open_site(Running& running, ServeOptions& options) {
  if (!options.chat_page) return {};
  chat::SiteOptions& wanted = options.chat;
  if (wanted.data_dir.empty()) wanted.data_dir = chat::default_data_dir();
  wanted.model_names = options.api.model_names;
  wanted.sampling = options.api.sampling;
  wanted.root_path = options.api.root_path;
  wanted.version = options.api.version;
  auto site = chat::Site::open(wanted, *running.engine);
  if (!site && site.error().code == ErrorCode::unavailable && !options.data_dir_given) {
    log_warning("without the chat page: {}", site.error().message);
    return {};
  }
  if (!site) return tl::unexpected(std::move(site).error());
  running.site = std::move(*site);
  return {};
}

api::OtherPaths chat_paths(chat::Site* site) {
  if (!site) return {};
  return {[site](http::Request& request) { return site->on_head(request); },
          [site](http::Request request, std::shared_ptr<http::Responder> responder) { site->on_request(std::move(request), std::move(responder)); }};
}

/// Every ten seconds in which something was computed, vLLM's line.
void log_stats(const EngineStats& before, const EngineStats& stats, double seconds) {
  if (stats.steps == before.steps) return;
  const auto rate = [&](uint64_t now, uint64_t then) { return static_cast<double>(now - then) / seconds; };
  const uint64_t queries = stats.prefix_queries_tokens - before.prefix_queries_tokens;
  const double hits = queries ? 100.0 * static_cast<double>(stats.prefix_hits_tokens - before.prefix_hits_tokens) / static_cast<double>(queries) : 0;
  log_info("Engine 000: Avg prompt throughput: {:.1f} tokens/s, Avg generation throughput: {:.1f} tokens/s, Running: {} reqs, Waiting: {} reqs, "
           "KV cache usage: {:.1f}%, Prefix cache hit rate: {:.1f}%",
           rate(stats.prompt_tokens, before.prompt_tokens), rate(stats.output_tokens, before.output_tokens), stats.running, stats.waiting, stats.kv_usage * 100, hits);
}

enum class Awaited { model, signal, both };

/// Waits for the model or a signal: requests are taken as soon as the model is there, so a signal may find them under way.
Result<Awaited> wait_for_model(Running& running, Signals& signals, LoadTimes& times) {
  bool signalled = false;
  TimeNs then = now_ns();
  bool model_loaded = false;
  for (;;) {
    if (auto error = load_error(running)) return tl::unexpected(std::move(*error));
    const EngineStats stats = running.engine->stats();
    const TimeNs spent_ns = now_ns() - then;
    then += spent_ns;
    if (!model_loaded) times.model_ns += spent_ns;
    if (!model_loaded && !times.phases.empty()) times.phases.back().second += spent_ns;
    model_loaded = stats.state != EngineState::loading;
    if (model_loaded && running.text_loaded) return signalled ? Awaited::both : Awaited::model;
    if (signalled) return Awaited::signal;
    if (!model_loaded && !stats.load_phase.empty() && (times.phases.empty() || stats.load_phase != times.phases.back().first)) {
      log_info("loading: {}", stats.load_phase);
      times.phases.emplace_back(stats.load_phase, 0);
    }
    signalled = signals.wait(kPollNs);
  }
}

/// Serves until a signal; an error where the engine failed for good.
Result<void> serve_until_signal(Running& running, Signals& signals) {
  EngineStats before = running.engine->stats();
  TimeNs then = now_ns();
  while (!signals.wait(kStatsNs)) {
    const EngineStats stats = running.engine->stats();
    if (stats.state == EngineState::failed) return tl::unexpected(stats.failure);
    log_stats(before, stats, seconds_between(then, now_ns()));
    before = stats;
    then = now_ns();
  }
  return {};
}

/// No new requests; those under way are given their time.
void drain(Running& running, Signals& signals, int timeout_s) {
  const TimeNs deadline_ns = now_ns() + timeout_s * kNsPerSecond;
  running.engine->drain(running.engine->clock().now_ns() + timeout_s * kNsPerSecond);
  running.server->stop_accepting();
  const auto under_way = [&] { return running.the_api->under_way() + (running.site ? running.site->answers_under_way() : 0); };
  if (const int left = under_way(); left > 0) log_info("shutting down: {} answers are under way, at most {} s", left, timeout_s);
  // In this order: an answer's last bytes are handed to the server before it stops being under way.
  while ((under_way() > 0 || running.server->unsent_bytes() > 0) && now_ns() < deadline_ns && !signals.wait(kPollNs)) {}
}

}  // namespace

/// By what it says: a name other than localhost may mean any address.
bool is_loopback(const std::string& host) {
  in_addr address{};
  return host == "localhost" || host == "::1" || (inet_pton(AF_INET, host.c_str(), &address) == 1 && ntohl(address.s_addr) >> 24 == 127);
}

std::string server_url(const http::ServerOptions& http, uint16_t port) {
  std::string host = http.host;
  if (host == "0.0.0.0" || host == "::") host = "localhost";
  if (host.find(':') != std::string::npos) host = "[" + host + "]";
  return fmt::format("{}://{}:{}", http.tls_certificate_file.empty() ? "http" : "https", host, port);
}

Result<ExitCode> serve(ServeOptions options) {
  const TimeNs started_ns = now_ns();
  raise_file_limit();
  Signals signals;
  PM_ASSIGN(const std::filesystem::path path, resolve_model(options.model));
  if (options.api.model_names.empty()) options.api.model_names = {path.stem().string()};

  Running running;
  options.http.refusal = api::http_refusal;
  PM_ASSIGN(running.server, http::Server::listen(options.http));
  const std::string url = server_url(options.http, running.server->port()) + options.api.root_path;
  options.engine.model = path;
  options.engine.served_model_name = options.api.model_names.front();
  auto source = open_gguf(path);
  if (source) {  // what cannot be read is reported by who loads it
    if (auto stop_tokens = read_stop_tokens(**source)) options.engine.stop_tokens = std::move(*stop_tokens);
  }
  PM_ASSIGN(auto backend, make_backend(options.device, path));
  const std::string device = describe_device(backend->device(), options.device.threads > 0 ? options.device.threads : usable_threads());
  running.engine = make_engine(options.engine, std::move(backend));
  PM_TRY(open_site(running, options));
  running.authenticator = make_static_authenticator(options.keys);
  const bool key_needed = options.keys.empty() && !options.insecure && !is_loopback(options.http.host);
  if (running.site) running.authenticator = running.site->make_authenticator(std::move(running.authenticator), key_needed);
  running.the_api = std::make_unique<api::Api>(options.api, *running.engine, *running.authenticator, running.registry, *running.server);
  running.the_api->start(chat_paths(running.site.get()));
  std::printf("Listening on %s after %.2f s; loading %s (%s)\n", url.c_str(), seconds_between(started_ns, now_ns()), path.c_str(), device.c_str());
  print_page(running, options, url);
  running.text_loader = std::thread([&, source = std::move(source)]() mutable { load_text(running, std::move(source), options.chat_template); });

  LoadTimes times;
  PM_ASSIGN(const Awaited awaited, wait_for_model(running, signals, times));
  if (awaited == Awaited::signal) return ExitCode::interrupted;
  print_ready(running, options, url, started_ns, times);
  if (awaited == Awaited::model) PM_TRY(serve_until_signal(running, signals));
  drain(running, signals, options.shutdown_timeout_s);
  return ExitCode::done;
}

}  // namespace pagemill
