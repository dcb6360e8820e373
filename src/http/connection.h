// Connection: one client's socket from accept to close: reads requests one after the other, hands each to the handler,
// writes its answer, and keeps the deadlines of ServerLimits.
//
// Threads: everything runs on the connection's io thread, except what a Responder calls from elsewhere (the `answer_*`
// functions): that touches only the members under `mutex_` and posts the rest.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_set>
#include <vector>

#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>

#include "base/clock.h"
#include "http/message.h"
#include "http/request_parser.h"
#include "http/server.h"
#include "http/stream.h"

namespace pagemill::http {

class Connection;
class Wakeup;

/// One io thread: its context and the connections that live on it. Kept alive by them.
struct IoThread {
  int index = 0;
  boost::asio::io_context context{1};
  std::unordered_set<std::shared_ptr<Connection>> connections;  // io thread only
  std::vector<std::shared_ptr<Wakeup>> wakeups;                 // io thread only
  boost::asio::steady_timer sweep_timer{context};
  bool sweeping = false;
};

/// What all connections of a server share. Outlives them.
struct ServerShared {
  ServerOptions options;
  Handler handler;
  HeadHandler head_handler;
  std::atomic<bool> stopping{false};
  std::atomic<int64_t> body_bytes{0};    // of all requests under way
  std::atomic<int64_t> unsent_bytes{0};  // of all answers
  /// A connection has ended. Any io thread.
  std::function<void(const std::string& peer_address)> on_closed;

  Response refusal(int status, std::string_view message) const;
};

class Connection : public std::enable_shared_from_this<Connection> {
 public:
  Connection(std::unique_ptr<Stream> stream, std::shared_ptr<IoThread> thread, std::shared_ptr<ServerShared> shared,
             std::string peer_address, bool tls);
  ~Connection();

  void start();
  /// Closes the connection if a deadline has passed.
  void sweep(TimeNs now_ns);
  /// Closes it if it is idle.
  void close_if_idle();
  /// At once, whatever it is doing.
  void close();

  // For the responder of exchange number `exchange`. Any thread; a call for an exchange that is over does nothing.
  void answer_whole(uint64_t exchange, Response response);
  void answer_start(uint64_t exchange, int status, const std::vector<Header>& headers);
  bool answer_write(uint64_t exchange, std::string_view bytes);
  void answer_finish(uint64_t exchange);
  void answer_dropped(uint64_t exchange);
  void answer_on_disconnect(uint64_t exchange, std::function<void()> callback);
  size_t buffered_bytes() const;
  int io_thread() const { return thread_->index; }

 private:
  enum class Phase { handshake, idle, head, body, answering, lingering, closed };
  enum class Answer { none, expected, streaming, complete };

  void enter(Phase phase, TimeNs timeout_ns);
  void read();
  void on_read(const boost::system::error_code& code, std::string_view bytes);
  void on_peer_gone();
  void advance();
  void take_head();
  void take_body_bytes(size_t before);
  void dispatch();
  void refuse(int status, std::string_view message);
  void begin_exchange();
  void append(std::string_view bytes);
  void pending_grew(size_t bytes);
  void post_flush();
  void flush();
  void on_written(const boost::system::error_code& code, size_t bytes);
  void end_exchange();
  void linger();

  std::unique_ptr<Stream> stream_;
  const std::shared_ptr<IoThread> thread_;
  const std::shared_ptr<ServerShared> shared_;
  const std::string peer_address_;
  const bool tls_;

  // Io thread only.
  Phase phase_ = Phase::handshake;
  TimeNs deadline_ns_ = 0;              // 0 = none
  TimeNs body_started_ns_ = 0;
  RequestParser parser_;
  std::string input_;                   // read and not yet parsed
  bool reading_ = false;
  int64_t counted_body_bytes_ = 0;      // our part of shared_->body_bytes
  std::string in_flight_;               // being written …
  size_t in_flight_done_ = 0;           // … up to here
  bool writing_ = false;
  TimeNs write_deadline_ns_ = 0;        // while writing_

  // Any thread.
  mutable std::mutex mutex_;
  uint64_t exchange_ = 0;               // number of the request being answered
  Answer answer_ = Answer::none;
  bool keep_alive_ = false;             // after this answer
  bool head_only_ = false;              // the answer to HEAD
  bool http_1_1_ = true;
  BodyFraming framing_ = BodyFraming::length;
  bool gone_ = false;                   // nothing can be sent any more
  bool flush_posted_ = false;
  std::string pending_;                 // to be written next
  std::function<void()> on_disconnect_;
  std::atomic<size_t> buffered_{0};     // pending_ and what is left of in_flight_; our part of shared_->unsent_bytes
};

}  // namespace pagemill::http
