// HTTP/1.1 server: sockets, TLS, deadlines, size limits, SSE. Bytes only: it knows nothing of JSON, models or accounts.
//
// Threads: `io_threads` threads with an io_context each; a connection lives on one of them. A handler runs there and must
// return within a millisecond: longer work goes to a worker pool and answers through its Responder from any thread.
#pragma once

#include <any>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"

namespace pagemill::http {

struct ServerLimits {
  size_t header_bytes_max = 16 << 10;          // 431 beyond
  int header_count_max = 100;                  // 431 beyond
  size_t body_bytes_max = 64 << 20;            // 413 beyond, before reading the rest
  size_t body_bytes_total_max = size_t{2} << 30;  // of all requests under way; 503 beyond
  int connections_max = 10'000;                // accepting pauses beyond
  int connections_per_address_max = 10'000;
  int header_timeout_s = 10;                   // the whole header must be there
  int body_timeout_s = 60;                     // the whole body at 64 KiB/s or better, at least this long
  int idle_timeout_s = 75;                     // between requests, and before the first
  int write_stall_timeout_s = 60;              // without progress
  size_t write_buffer_bytes_max = 1 << 20;     // per stream; the producer is told to wait or is cancelled beyond
};

using Header = std::pair<std::string, std::string>;

struct Request {
  std::string method;
  std::string target;                          // as sent: "/v1/models?x=1"
  std::string path;                            // decoded, without the query; UTF-8, no control characters, no "." or ".." segment
  std::string query;                           // as sent, without the "?"
  std::vector<Header> headers;                 // without trailers
  std::string body;
  std::string peer_address;
  bool tls = false;
  std::any admission;                          // what the HeadHandler left for the Handler

  /// The first header of that name (any case), or empty.
  std::string_view header(std::string_view name) const;
};

struct Response {
  int status = 200;
  std::vector<Header> headers;
  std::string body;
};

struct ServerOptions {
  std::string host = "127.0.0.1";              // an address or a name; a name binds its first address
  uint16_t port = 8080;                        // 0 = any free one
  int io_threads = 0;                          // 0 = one per four cores
  std::string tls_certificate_file, tls_key_file;  // PEM, both or none
  ServerLimits limits;
  /// The answer to a request that the server itself refuses (400, 408, 413, 431, 500, 501, 503, 505); plain text where empty.
  std::function<Response(int status, std::string_view message)> refusal;
};

/// How a request is answered: once with send(), or as a stream with start() … write() … finish(). Any thread; calls of one
/// responder must not overlap. Dropping it unanswered sends 500.
class Responder {
 public:
  virtual ~Responder() = default;
  virtual void send(Response response) = 0;
  /// Begins a response of unknown length (chunked; text/event-stream for SSE).
  virtual void start(int status, std::vector<Header> headers) = 0;
  /// False once the peer is gone, or where the buffer's bound would be passed: the connection is then closed. Stop producing.
  virtual bool write(std::string_view bytes) = 0;
  virtual void finish() = 0;
  /// Called once, on the connection's thread, if the peer goes away (or is cut off) before finish() or send(). A peer that
  /// closes its sending half counts as gone. Set it before the answer begins.
  virtual void on_disconnect(std::function<void()> callback) = 0;
  /// Bytes that the peer has not taken yet. A producer may merge what it has to say while this is large.
  virtual size_t buffered_bytes() const = 0;
  /// Which io thread the connection lives on: 0 … Server::io_threads() - 1.
  virtual int io_thread() const = 0;
};

/// Called on an io thread with the whole request.
using Handler = std::function<void(Request, std::shared_ptr<Responder>)>;
/// Called on an io thread when the head has been read and before the body is: an answer refuses the request unread.
using HeadHandler = std::function<std::optional<Response>(Request&)>;

class Server {
 public:
  /// Binds and listens; an address in use is an error that names it. Connections wait in the system's queue until start().
  static Result<std::unique_ptr<Server>> listen(const ServerOptions& options);
  /// Stops accepting, closes connections, joins its threads. No handler runs afterwards; responders may be used and do nothing.
  virtual ~Server() = default;
  /// Starts accepting. Once.
  virtual void start(Handler handler, HeadHandler head_handler = {}) = 0;
  virtual uint16_t port() const = 0;
  virtual int connections() const = 0;
  /// Of all answers: what has been handed over and no peer's system has taken yet. Destroying the server drops it. Any thread.
  virtual int64_t unsent_bytes() const = 0;
  virtual int io_threads() const = 0;
  /// Runs `task` on an io thread. Any thread.
  virtual void post(int io_thread, std::function<void()> task) = 0;
  /// Returns a call that has `task` run on an io thread soon; calls before it has run are one. Any thread; it allocates nothing
  /// and takes no lock. It may outlive the server and then does nothing.
  virtual std::function<void()> make_wakeup(int io_thread, std::function<void()> task) = 0;
  /// Stops accepting and closes idle connections; answers what is under way, each with "Connection: close".
  virtual void stop_accepting() = 0;
};

/// One SSE frame: "id: …\nevent: …\ndata: …\n\n" with every line of `data` prefixed. Empty id and event are left out.
std::string sse_frame(std::string_view data, std::string_view event = {}, std::string_view id = {});

}  // namespace pagemill::http
