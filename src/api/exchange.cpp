#include "api/exchange.h"

#include <fmt/format.h>

#include "api/error_body.h"
#include "base/json.h"
#include "base/log.h"

namespace pagemill::api {
namespace {

constexpr int kClientClosed = 499;
constexpr size_t kLoggedPathBytes = 200;

}  // namespace

void log_access(const Admission& admission, int status, size_t bytes, TimeNs now_ns) {
  if (!log_enabled(LogLevel::info)) return;
  const double ms = static_cast<double>(now_ns - admission.started_ns) / kNsPerMs;
  const std::string path = admission.path.substr(0, kLoggedPathBytes);
  const std::string fields = fmt::format(R"("peer":{},"key":{},"method":{},"path":{},"status":{},"bytes":{},"duration_ms":{:.3f},"request_id":{})", json_quote(admission.peer),
                                         json_quote(admission.principal.id), json_quote(admission.method), json_quote(path), status, bytes, ms, json_quote(admission.request_id));
  write_log(LogLevel::info, fmt::format("{} {} {} {} {} {} B {:.1f} ms {}", admission.peer, admission.principal.id, admission.method, path, status, bytes, ms, admission.request_id), fields);
}

void add_common_headers(const Admission& admission, std::vector<http::Header>& headers) {
  headers.emplace_back("X-Request-Id", admission.request_id);
  if (admission.allowed_origin.empty()) return;
  headers.emplace_back("Access-Control-Allow-Origin", admission.allowed_origin);
  headers.emplace_back("Access-Control-Expose-Headers", "X-Request-Id, Retry-After");
  headers.emplace_back("Vary", "Origin");
}

Exchange::Exchange(Admission admission, http::Request request, std::shared_ptr<http::Responder> responder, ServingMetrics& metrics,
                   std::function<void()> on_end)
    : admission_(std::move(admission)), request_(std::move(request)), responder_(std::move(responder)), metrics_(metrics), on_end_(std::move(on_end)) {}

Exchange::~Exchange() { end(kClientClosed); }

void Exchange::end(int status) {
  if (std::exchange(ended_, true)) return;
  const TimeNs now = SteadyClock::instance().now_ns();
  log_access(admission_, status, bytes_, now);
  metrics_.count_http(admission_.route, admission_.method, status, static_cast<double>(now - admission_.started_ns) / kNsPerSecond);
  if (on_end_) on_end_();
}

void Exchange::send(http::Response response) {
  add_common_headers(admission_, response.headers);
  bytes_ = response.body.size();
  const int status = response.status;
  responder_->send(std::move(response));
  end(status);
}

void Exchange::send_json(std::string body) { send({200, {{"Content-Type", "application/json"}}, std::move(body)}); }

void Exchange::fail(const Error& error) { send(error_response(error)); }

void Exchange::start_events() {
  std::vector<http::Header> headers{{"Content-Type", "text/event-stream; charset=utf-8"}, {"Cache-Control", "no-cache"}, {"X-Accel-Buffering", "no"}};
  add_common_headers(admission_, headers);
  responder_->start(200, std::move(headers));
  started_ = true;
}

bool Exchange::write(std::string_view bytes) {
  bytes_ += bytes.size();
  return responder_->write(bytes);
}

void Exchange::finish() {
  responder_->finish();
  end(200);
}

}  // namespace pagemill::api
