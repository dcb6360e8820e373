// HTTP/1.1 client over libcurl: for downloads, for the load generator and for tests.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "http/server.h"

namespace pagemill::http {

struct ClientRequest {
  std::string method = "GET";
  std::string url;
  std::vector<Header> headers;
  std::string body;
  int connect_timeout_s = 10;
  int stall_timeout_s = 60;              // without a byte
  size_t body_bytes_max = 64 << 20;      // of the answer; more is an error
  bool follow_redirects = false;         // never to another scheme; Authorization is dropped on another host
  /// Given the body as it arrives instead of collecting it; returning false ends the transfer.
  std::function<bool(std::string_view)> on_data;
};

/// Blocks the calling thread. One client may be used by one thread at a time; connections are kept alive. Any status is a
/// success; so is a transfer that on_data ended.
class Client {
 public:
  Client();
  ~Client();
  Result<Response> fetch(const ClientRequest& request);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace pagemill::http
