// HTTP/1.1 server: sockets, TLS, deadlines, size limits, SSE. Bytes only: it knows nothing of JSON, models or accounts.
//
// Threads: `io_threads` threads with an io_context each; a connection lives on one of them. A handler runs there and must
// return within a millisecond: longer work goes to a worker pool and answers through its Responder from any thread.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"

namespace pagemill::http {

struct ServerLimits {
  size_t header_bytes_max = 16 << 10;          // 431 beyond
  size_t body_bytes_max = 64 << 20;            // 413 beyond, before reading the rest
  int connections_max = 10'000;                // accepting pauses beyond
  int connections_per_address_max = 10'000;
  int header_timeout_s = 10;                   // the whole header must be there
  int body_timeout_s = 60;                     // the whole body at 64 KiB/s or better, at least this long
  int idle_timeout_s = 75;                     // between requests
  int write_stall_timeout_s = 60;              // without progress
  size_t write_buffer_bytes_max = 1 << 20;     // per stream; the producer is told to wait or is cancelled beyond
};

struct ServerOptions {
  std::string host = "127.0.0.1";
  uint16_t port = 8080;                        // 0 = any free one
  int io_threads = 0;                          // 0 = one per four cores
  std::string tls_certificate_file, tls_key_file;
  ServerLimits limits;
};

using Header = std::pair<std::string, std::string>;

struct Request {
  std::string method;
  std::string target;                          // as sent: "/v1/models?x=1"
  std::string path;                            // decoded, without the query, never with ".." or NUL
  std::string query;
  std::vector<Header> headers;
  std::string body;
  std::string peer_address;
  bool tls = false;

  /// The first header of that name (any case), or empty.
  std::string_view header(std::string_view name) const;
};

struct Response {
  int status = 200;
  std::vector<Header> headers;
  std::string body;
};

/// How a request is answered: once with send(), or as a stream with start() … write() … finish(). Any thread; calls of one
/// responder must not overlap. Dropping it unanswered sends 500.
class Responder {
 public:
  virtual ~Responder() = default;
  virtual void send(Response response) = 0;
  /// Begins a response of unknown length (chunked; text/event-stream for SSE).
  virtual void start(int status, std::vector<Header> headers) = 0;
  /// False once the peer is gone or the buffer's bound was hit: stop producing.
  virtual bool write(std::string bytes) = 0;
  virtual void finish() = 0;
  /// Called once, on the connection's thread, if the peer goes away before the answer is complete.
  virtual void on_disconnect(std::function<void()> callback) = 0;
  virtual size_t buffered_bytes() const = 0;
};

/// Called on an io thread with the whole request.
using Handler = std::function<void(Request, std::shared_ptr<Responder>)>;

class Server {
 public:
  /// Binds and listens; an address in use is an error that names it.
  static Result<std::unique_ptr<Server>> listen(const ServerOptions& options, Handler handler);
  /// Stops accepting, closes connections, joins its threads.
  virtual ~Server() = default;
  virtual uint16_t port() const = 0;
  virtual int connections() const = 0;
  /// Stops accepting; answers what is under way.
  virtual void stop_accepting() = 0;
};

/// One SSE frame: "id: …\nevent: …\ndata: …\n\n" with every line of `data` prefixed. Empty id and event are left out.
std::string sse_frame(std::string_view data, std::string_view event = {}, std::string_view id = {});

}  // namespace pagemill::http
