// OtherPaths: who serves what is not the API's: the chat page. It sees requests whose Host is allowed, with the client's address
// and the path below --root-path; the access log, X-Request-Id and metrics are the API's.
#pragma once

#include <memory>
#include <mutex>

#include "api/exchange.h"
#include "http/server.h"

namespace pagemill::api {

struct OtherPaths {
  http::HeadHandler head;                // may leave its own admission in the request
  http::Handler handler;
};

/// What on_head() leaves for a request that goes to OtherPaths.
struct DelegatedRequest {
  Admission admission;
  std::any inner;                        // what OtherPaths::head left
};

/// The responder of such a request: passes everything on and writes the access log's line at the end.
std::shared_ptr<http::Responder> make_logged_responder(Admission admission, std::shared_ptr<http::Responder> inner, ServingMetrics& metrics);

}  // namespace pagemill::api
