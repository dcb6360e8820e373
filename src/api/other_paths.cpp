#include "api/other_paths.h"

namespace pagemill::api {
namespace {

class LoggedResponder final : public http::Responder {
 public:
  LoggedResponder(Admission admission, std::shared_ptr<http::Responder> inner, ServingMetrics& metrics)
      : admission_(std::move(admission)), inner_(std::move(inner)), metrics_(metrics) {}
  ~LoggedResponder() override { end(499); }

  void send(http::Response response) override {
    response.headers.emplace_back("X-Request-Id", admission_.request_id);
    bytes_ = response.body.size();
    const int status = response.status;
    inner_->send(std::move(response));
    end(status);
  }
  void start(int status, std::vector<http::Header> headers) override {
    headers.emplace_back("X-Request-Id", admission_.request_id);
    status_ = status;
    inner_->start(status, std::move(headers));
  }
  bool write(std::string_view bytes) override {
    bytes_ += bytes.size();
    return inner_->write(bytes);
  }
  void finish() override {
    inner_->finish();
    end(status_);
  }
  void on_disconnect(std::function<void()> callback) override { inner_->on_disconnect(std::move(callback)); }
  size_t buffered_bytes() const override { return inner_->buffered_bytes(); }
  int io_thread() const override { return inner_->io_thread(); }

 private:
  void end(int status) {
    if (std::exchange(ended_, true)) return;
    const TimeNs now = SteadyClock::instance().now_ns();
    log_access(admission_, status, bytes_, now);
    metrics_.count_http(admission_.route, admission_.method, status, static_cast<double>(now - admission_.started_ns) / kNsPerSecond);
  }

  const Admission admission_;
  const std::shared_ptr<http::Responder> inner_;
  ServingMetrics& metrics_;
  int status_ = 200;
  size_t bytes_ = 0;
  bool ended_ = false;
};

}  // namespace

std::shared_ptr<http::Responder> make_logged_responder(Admission admission, std::shared_ptr<http::Responder> inner, ServingMetrics& metrics) {
  return std::make_shared<LoggedResponder>(std::move(admission), std::move(inner), metrics);
}

}  // namespace pagemill::api
