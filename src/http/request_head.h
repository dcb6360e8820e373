// A request's head: what decides where a request ends and what it means. Whatever two HTTP implementations could read
// differently (request smuggling) is refused: RFC 9112 and 9110, their strict side.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "http/server.h"

namespace pagemill::http {

/// Why a request is refused; status 0 = it is not.
struct Refusal {
  int status = 0;
  std::string message;
  explicit operator bool() const { return status != 0; }
};

struct RequestHead {
  std::string method, target;
  std::vector<Header> headers;
  bool http_1_1 = false;                     // else HTTP/1.0
  bool keep_alive = false;
  bool chunked = false;
  std::optional<uint64_t> content_length;
};

/// `text`: the request line and header lines with their CRLFs, up to and with the empty line. Checks line ends, the request
/// line, field syntax, one Host, and that Content-Length and Transfer-Encoding name one length within body_bytes_max.
Refusal parse_head(std::string_view text, const ServerLimits& limits, RequestHead& head);

/// What can be said of a head that is not complete: bare LF, NUL, too long.
Refusal check_partial_head(std::string_view bytes, const ServerLimits& limits);

/// Splits and decodes a request target into path and query; accepts the absolute form. False where it is malformed, holds
/// a control character, is not UTF-8, or has a "." or ".." segment after decoding.
bool decode_target(std::string_view target, std::string& path, std::string& query);

}  // namespace pagemill::http
