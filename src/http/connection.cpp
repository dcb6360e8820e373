#include "http/connection.h"

#include <algorithm>

#include <boost/asio/post.hpp>

namespace pagemill::http {
namespace {

/// Requests that a client sends ahead of an answer wait unread beyond this.
constexpr size_t kPipelinedBytesMax = 64 << 10;
/// The slowest rate at which a body may come once the timeout is over.
constexpr int64_t kBodyBytesPerSecond = 64 << 10;
/// How long a closed connection is read to its end, so that the client finds our last answer before a reset.
constexpr TimeNs kLingerNs = 5 * kNsPerSecond;

TimeNs now_ns() { return SteadyClock::instance().now_ns(); }
TimeNs seconds(int count) { return count * kNsPerSecond; }

/// The handler's side of one exchange.
class ConnectionResponder final : public Responder {
 public:
  ConnectionResponder(std::shared_ptr<Connection> connection, uint64_t exchange)
      : connection_(std::move(connection)), exchange_(exchange) {}
  ~ConnectionResponder() override { connection_->answer_dropped(exchange_); }

  void send(Response response) override { connection_->answer_whole(exchange_, std::move(response)); }
  void start(int status, std::vector<Header> headers) override { connection_->answer_start(exchange_, status, headers); }
  bool write(std::string_view bytes) override { return connection_->answer_write(exchange_, bytes); }
  void finish() override { connection_->answer_finish(exchange_); }
  void on_disconnect(std::function<void()> callback) override { connection_->answer_on_disconnect(exchange_, std::move(callback)); }
  size_t buffered_bytes() const override { return connection_->buffered_bytes(); }
  int io_thread() const override { return connection_->io_thread(); }

 private:
  const std::shared_ptr<Connection> connection_;
  const uint64_t exchange_;
};

}  // namespace

Response ServerShared::refusal(int status, std::string_view message) const {
  if (options.refusal) return options.refusal(status, message);
  return {status, {{"Content-Type", "text/plain; charset=utf-8"}}, std::string(message) + "\n"};
}

Connection::Connection(std::unique_ptr<Stream> stream, std::shared_ptr<IoThread> thread, std::shared_ptr<ServerShared> shared,
                       std::string peer_address, bool tls)
    : stream_(std::move(stream)),
      thread_(std::move(thread)),
      shared_(std::move(shared)),
      peer_address_(std::move(peer_address)),
      tls_(tls),
      parser_(shared_->options.limits) {}

Connection::~Connection() = default;

void Connection::start() {
  enter(Phase::handshake, seconds(shared_->options.limits.header_timeout_s));
  stream_->handshake([self = shared_from_this()](const boost::system::error_code& code) {
    if (self->phase_ == Phase::closed) return;
    if (code) return self->close();
    self->enter(Phase::idle, seconds(self->shared_->options.limits.idle_timeout_s));
    self->read();
  });
}

void Connection::enter(Phase phase, TimeNs timeout_ns) {
  phase_ = phase;
  deadline_ns_ = timeout_ns > 0 ? now_ns() + timeout_ns : 0;
}

void Connection::sweep(TimeNs now) {
  if (writing_ && now > write_deadline_ns_) return close();
  if (phase_ == Phase::body) {
    const int64_t bytes = std::max(static_cast<int64_t>(parser_.announced_body_bytes()), counted_body_bytes_);
    const TimeNs allowed_ns = std::max(seconds(shared_->options.limits.body_timeout_s), bytes * kNsPerSecond / kBodyBytesPerSecond);
    deadline_ns_ = body_started_ns_ + allowed_ns;
  }
  if (deadline_ns_ == 0 || now <= deadline_ns_) return;
  if (phase_ == Phase::head) return refuse(408, "the request's head did not come in time");
  if (phase_ == Phase::body) return refuse(408, "the request's body did not come in time");
  close();
}

void Connection::close_if_idle() {
  if (phase_ == Phase::idle && !writing_) close();
}

void Connection::close() {
  if (phase_ == Phase::closed) return;
  phase_ = Phase::closed;
  deadline_ns_ = 0;
  std::function<void()> callback;
  {
    std::lock_guard lock(mutex_);
    gone_ = true;
    if (answer_ == Answer::expected || answer_ == Answer::streaming) callback = std::move(on_disconnect_);
    on_disconnect_ = nullptr;
    pending_.clear();
    shared_->unsent_bytes -= static_cast<int64_t>(buffered_.exchange(0));
  }
  stream_->close();
  shared_->body_bytes -= counted_body_bytes_;
  counted_body_bytes_ = 0;
  shared_->on_closed(peer_address_);
  thread_->connections.erase(shared_from_this());
  if (callback) callback();
}

// ---- reading ----

void Connection::read() {
  if (reading_ || phase_ == Phase::closed) return;
  if (phase_ == Phase::answering && input_.size() >= kPipelinedBytesMax) return;
  reading_ = true;
  stream_->read_some([self = shared_from_this()](const boost::system::error_code& code, std::string_view bytes) {
    self->reading_ = false;
    self->on_read(code, bytes);
  });
}

void Connection::on_read(const boost::system::error_code& code, std::string_view bytes) {
  if (phase_ == Phase::closed) return;
  if (code) return on_peer_gone();
  if (phase_ == Phase::lingering) return read();
  input_.append(bytes);
  if (phase_ != Phase::answering) advance();
  read();
}

void Connection::on_peer_gone() {
  {
    std::lock_guard lock(mutex_);
    // A client may close its half as soon as it has asked; an answer that is ready is still delivered.
    if (answer_ == Answer::complete && (writing_ || flush_posted_)) {
      keep_alive_ = false;
      return;
    }
  }
  close();
}

void Connection::advance() {
  while (phase_ == Phase::idle || phase_ == Phase::head || phase_ == Phase::body) {
    if (phase_ == Phase::idle) {
      if (input_.empty()) return;
      parser_ = RequestParser(shared_->options.limits);
      enter(Phase::head, seconds(shared_->options.limits.header_timeout_s));
    }
    const Phase before_phase = phase_;
    const size_t before = parser_.request().body.size();
    const RequestParser::State state = parser_.parse(input_);
    if (phase_ == Phase::body) take_body_bytes(before);
    if (state == RequestParser::State::refused) return refuse(parser_.refusal().status, parser_.refusal().message);
    if (before_phase == Phase::head && state != RequestParser::State::head) {
      take_head();
      if (phase_ != Phase::body) continue;
    }
    if (phase_ != Phase::body) return;  // more of the head is needed
    if (parser_.state() == RequestParser::State::complete) {
      dispatch();
    } else if (before_phase == Phase::body) {
      if (shared_->body_bytes > static_cast<int64_t>(shared_->options.limits.body_bytes_total_max))
        return refuse(503, "too many large requests are under way; try again later");
      return;  // more of the body is needed
    }
  }
}

void Connection::take_head() {
  Request& request = parser_.request();
  request.peer_address = peer_address_;
  request.tls = tls_;
  begin_exchange();
  body_started_ns_ = now_ns();
  enter(Phase::body, seconds(shared_->options.limits.body_timeout_s));
  if (shared_->head_handler) {
    if (std::optional<Response> answer = shared_->head_handler(request)) {
      // With a body still to come the connection cannot be used again: it is not read.
      std::unique_lock lock(mutex_);
      if (parser_.state() != RequestParser::State::complete) keep_alive_ = false;
      const uint64_t exchange = exchange_;
      lock.unlock();
      enter(Phase::answering, 0);
      return answer_whole(exchange, std::move(*answer));
    }
  }
  if (parser_.state() == RequestParser::State::body && input_.empty() && parser_.expects_continue()) {
    std::lock_guard lock(mutex_);
    append("HTTP/1.1 100 Continue\r\n\r\n");
  }
}

void Connection::take_body_bytes(size_t before) {
  const auto grown = static_cast<int64_t>(parser_.request().body.size() - before);
  counted_body_bytes_ += grown;
  shared_->body_bytes += grown;
}

void Connection::begin_exchange() {
  std::lock_guard lock(mutex_);
  ++exchange_;
  answer_ = Answer::expected;
  head_only_ = parser_.request().method == "HEAD";
  http_1_1_ = parser_.http_1_1();
  keep_alive_ = parser_.keep_alive() && http_1_1_;
  on_disconnect_ = nullptr;
}

void Connection::dispatch() {
  enter(Phase::answering, 0);
  auto responder = std::make_shared<ConnectionResponder>(shared_from_this(), exchange_);
  shared_->handler(std::move(parser_.request()), std::move(responder));
}

void Connection::refuse(int status, std::string_view message) {
  if (phase_ == Phase::head || phase_ == Phase::idle) begin_exchange();
  uint64_t exchange = 0;
  {
    std::lock_guard lock(mutex_);
    keep_alive_ = false;
    exchange = exchange_;
  }
  enter(Phase::answering, 0);
  answer_whole(exchange, shared_->refusal(status, message));
}

// ---- answering: any thread ----

void Connection::answer_whole(uint64_t exchange, Response response) {
  std::lock_guard lock(mutex_);
  if (exchange != exchange_ || answer_ != Answer::expected || gone_) return;
  if (shared_->stopping) keep_alive_ = false;
  const bool body = status_allows_body(response.status);
  append(response_head(response.status, response.headers, BodyFraming::length, response.body.size(), keep_alive_));
  if (body && !head_only_) append(response.body);
  answer_ = Answer::complete;
}

void Connection::answer_start(uint64_t exchange, int status, const std::vector<Header>& headers) {
  std::lock_guard lock(mutex_);
  if (exchange != exchange_ || answer_ != Answer::expected || gone_) return;
  if (shared_->stopping || !http_1_1_) keep_alive_ = false;
  framing_ = http_1_1_ ? BodyFraming::chunked : BodyFraming::until_close;
  append(response_head(status, headers, framing_, 0, keep_alive_));
  answer_ = Answer::streaming;
}

bool Connection::answer_write(uint64_t exchange, std::string_view bytes) {
  std::lock_guard lock(mutex_);
  if (exchange != exchange_ || answer_ != Answer::streaming || gone_) return false;
  if (head_only_) return true;
  if (buffered_ + bytes.size() > shared_->options.limits.write_buffer_bytes_max) {
    gone_ = true;
    boost::asio::post(thread_->context, [self = shared_from_this()] { self->close(); });
    return false;
  }
  const size_t before = pending_.size();
  if (framing_ == BodyFraming::chunked) append_chunk(pending_, bytes);
  else pending_ += bytes;
  pending_grew(pending_.size() - before);
  return true;
}

void Connection::answer_finish(uint64_t exchange) {
  std::lock_guard lock(mutex_);
  if (exchange != exchange_ || answer_ != Answer::streaming || gone_) return;
  if (framing_ == BodyFraming::chunked && !head_only_) append(kLastChunk);
  answer_ = Answer::complete;
  post_flush();
}

void Connection::answer_dropped(uint64_t exchange) {
  {
    std::lock_guard lock(mutex_);
    if (exchange != exchange_ || gone_ || answer_ == Answer::complete) return;
    if (answer_ == Answer::streaming) {
      on_disconnect_ = nullptr;
      // The head is out: cutting the connection is the only way left to say that the answer is not whole.
      gone_ = true;
      boost::asio::post(thread_->context, [self = shared_from_this()] { self->close(); });
      return;
    }
  }
  answer_whole(exchange, shared_->refusal(500, "the request was not answered"));
}

void Connection::answer_on_disconnect(uint64_t exchange, std::function<void()> callback) {
  std::lock_guard lock(mutex_);
  if (exchange != exchange_ || answer_ == Answer::complete) return;
  if (gone_) boost::asio::post(thread_->context, std::move(callback));
  else on_disconnect_ = std::move(callback);
}

size_t Connection::buffered_bytes() const { return buffered_; }

/// Under mutex_.
void Connection::append(std::string_view bytes) {
  pending_ += bytes;
  pending_grew(bytes.size());
}

/// Under mutex_.
void Connection::pending_grew(size_t bytes) {
  buffered_ += bytes;
  shared_->unsent_bytes += static_cast<int64_t>(bytes);
  post_flush();
}

/// Under mutex_. A batch of writes becomes one.
void Connection::post_flush() {
  if (flush_posted_) return;
  flush_posted_ = true;
  boost::asio::post(thread_->context, [self = shared_from_this()] {
    {
      std::lock_guard lock(self->mutex_);
      self->flush_posted_ = false;
    }
    self->flush();
  });
}

// ---- writing ----

void Connection::flush() {
  if (writing_ || phase_ == Phase::closed) return;
  {
    std::lock_guard lock(mutex_);
    in_flight_.clear();
    std::swap(in_flight_, pending_);
  }
  in_flight_done_ = 0;
  if (in_flight_.empty()) return end_exchange();
  writing_ = true;
  on_written({}, 0);
}

void Connection::on_written(const boost::system::error_code& code, size_t bytes) {
  if (phase_ == Phase::closed) return;
  if (code) {
    writing_ = false;
    return close();
  }
  in_flight_done_ += bytes;
  buffered_ -= bytes;
  shared_->unsent_bytes -= static_cast<int64_t>(bytes);
  if (in_flight_done_ == in_flight_.size()) {
    writing_ = false;
    return flush();
  }
  write_deadline_ns_ = now_ns() + seconds(shared_->options.limits.write_stall_timeout_s);
  stream_->write_some(in_flight_.data() + in_flight_done_, in_flight_.size() - in_flight_done_,
                      [self = shared_from_this()](const boost::system::error_code& error, size_t written) { self->on_written(error, written); });
}

/// Everything handed over has been written; if the answer was whole, the next request is due.
void Connection::end_exchange() {
  bool keep_alive = false;
  {
    std::lock_guard lock(mutex_);
    if (phase_ != Phase::answering || answer_ != Answer::complete || !pending_.empty()) return;
    answer_ = Answer::none;
    on_disconnect_ = nullptr;
    keep_alive = keep_alive_ && !shared_->stopping;
  }
  shared_->body_bytes -= counted_body_bytes_;
  counted_body_bytes_ = 0;
  if (in_flight_.capacity() > kPipelinedBytesMax) in_flight_ = {};
  if (!keep_alive) return linger();
  enter(Phase::idle, seconds(shared_->options.limits.idle_timeout_s));
  advance();
  read();
}

void Connection::linger() {
  enter(Phase::lingering, kLingerNs);
  input_.clear();
  stream_->shutdown_send([self = shared_from_this()] {});
  read();
}

}  // namespace pagemill::http
