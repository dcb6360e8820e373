// Exchange: one request on its way through the API: who asks, where the answer goes, and the one line in the access log.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <string>

#include "api/auth.h"
#include "api/serving_metrics.h"
#include "base/clock.h"
#include "base/result.h"
#include "http/server.h"

namespace pagemill::api {

/// What is known of a request once its head has been admitted.
struct Admission {
  std::string request_id;                // ours, or the client's X-Request-Id where it is harmless
  std::string route;                     // the pattern: "/v1/models/{id}"
  size_t route_index = 0;
  std::string method, path, peer;
  Principal principal;
  std::string allowed_origin;            // for Access-Control-Allow-Origin; empty = none
  TimeNs started_ns = 0;
};

/// Writes the access log's line: no query, header or body is in it.
void log_access(const Admission& admission, int status, size_t bytes, TimeNs now_ns);
/// X-Request-Id and, for an origin that is allowed, CORS.
void add_common_headers(const Admission& admission, std::vector<http::Header>& headers);

/// Calls must not overlap; any thread. Exactly one of send() and start_events() … finish(). One dropped without an answer is
/// logged as 499 where the client is gone, and answered with 500 otherwise.
class Exchange {
 public:
  Exchange(Admission admission, http::Request request, std::shared_ptr<http::Responder> responder, ServingMetrics& metrics,
           std::function<void()> on_end);
  ~Exchange();

  const Admission& admission() const { return admission_; }
  const Principal& principal() const { return admission_.principal; }
  http::Request& request() { return request_; }
  int io_thread() const { return responder_->io_thread(); }

  void send(http::Response response);
  void send_json(std::string body);
  void fail(const Error& error);
  /// text/event-stream.
  void start_events();
  bool started() const { return started_; }
  /// False: stop producing.
  bool write(std::string_view bytes);
  void finish();
  size_t buffered_bytes() const { return responder_->buffered_bytes(); }
  void on_disconnect(std::function<void()> callback) { responder_->on_disconnect(std::move(callback)); }

 private:
  void end(int status);

  const Admission admission_;
  http::Request request_;
  const std::shared_ptr<http::Responder> responder_;
  ServingMetrics& metrics_;
  std::function<void()> on_end_;
  bool started_ = false, ended_ = false;
  size_t bytes_ = 0;
};

}  // namespace pagemill::api
