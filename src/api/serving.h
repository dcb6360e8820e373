// What the handlers of the API share: options, engine, the model's text, pool, pump and metrics.
#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "api/event_pump.h"
#include "api/exchange.h"
#include "base/worker_pool.h"
#include "sample/params.h"
#include "session/session.h"

namespace pagemill::api {

struct ApiOptions {
  std::vector<std::string> model_names;     // what requests may call the model; the first is reported
  std::vector<std::string> allowed_hosts;   // beside localhost and IP addresses; "*" = any
  std::vector<std::string> allowed_origins; // CORS; "*" = any; empty = none
  std::vector<std::string> trusted_proxies; // peers whose X-Forwarded-For names the client
  std::string root_path;                    // "/llm" where a proxy serves it below that
  SamplingDefaults sampling;                // of requests that leave fields out
  bool chat_ui = false;
  std::string version;
  int worker_threads = 1;
  size_t queued_work_max = 1'024;           // requests that wait for template and tokenization; 429 beyond
};

struct Serving {
  Serving(ApiOptions opts, EngineHandle& handle, MetricRegistry& registry_of, http::Server& server)
      : options(std::move(opts)), engine(handle), registry(registry_of), metrics(registry_of, handle, options.model_names.front()), pump(server),
        post([&server](int io_thread, std::function<void()> task) { server.post(io_thread, std::move(task)); }),
        pool({.threads = options.worker_threads, .queued_max = options.queued_work_max}) {}

  std::shared_ptr<const TextModel> text() const {
    std::lock_guard lock(text_mutex);
    return text_model;
  }
  /// The model's facts, or `unavailable` with how far its loading is.
  Result<EngineModelInfo> model_info() const;
  /// not_found unless `name` is empty or one of options.model_names.
  Result<void> check_model(const std::string& name) const;

  const ApiOptions options;
  EngineHandle& engine;
  MetricRegistry& registry;
  ServingMetrics metrics;
  EventPump pump;
  const std::function<void(int, std::function<void()>)> post;  // to an io thread
  mutable std::mutex text_mutex;
  std::shared_ptr<const TextModel> text_model;  // under text_mutex; null until it is loaded
  WorkerPool pool;                              // last: its tasks use the rest
};

/// Answers POST /v1/chat/completions and /v1/completions. On an io thread.
void serve_chat(const std::shared_ptr<Serving>& serving, std::shared_ptr<Exchange> exchange);
void serve_completion(const std::shared_ptr<Serving>& serving, std::shared_ptr<Exchange> exchange);
void serve_embeddings(const std::shared_ptr<Serving>& serving, std::shared_ptr<Exchange> exchange);
void serve_tokenize(const std::shared_ptr<Serving>& serving, std::shared_ptr<Exchange> exchange);
void serve_detokenize(const std::shared_ptr<Serving>& serving, std::shared_ptr<Exchange> exchange);

/// Runs `work` on the pool, or answers 429 where its queue is full.
void run_on_pool(const std::shared_ptr<Serving>& serving, const std::shared_ptr<Exchange>& exchange, std::function<void()> work);

/// Logs fields that nobody knows, once per name.
void log_unknown_fields(const std::vector<std::string>& names);

/// `name` as a prefix-cache salt; 0 for an empty one.
uint64_t salt_of(const std::string& name);

}  // namespace pagemill::api
