#include "api/error_body.h"

#include <fmt/format.h>

#include "base/json.h"

namespace pagemill::api {
namespace {

std::string_view error_type(int status) {
  switch (status) {
    case 400: return "BadRequestError";
    case 401: return "AuthenticationError";
    case 403: return "PermissionDeniedError";
    case 404: return "NotFoundError";
    case 405: return "MethodNotAllowedError";
    case 413: return "RequestEntityTooLargeError";
    case 421: return "MisdirectedRequestError";
    case 422: return "UnprocessableEntityError";
    case 429: return "RateLimitError";
    case 501: return "NotImplementedError";
    case 503: return "ServiceUnavailableError";
    default: return status < 500 ? "BadRequestError" : "InternalServerError";
  }
}

/// A field of the body that the message does not name is still named by `param`; the context's length has a name of vLLM's.
std::string_view param_of(const Error& error) { return error.code == ErrorCode::context_too_long ? "input_tokens" : std::string_view(error.field); }

}  // namespace

int http_status(ErrorCode code) {
  switch (code) {
    case ErrorCode::invalid_argument:
    case ErrorCode::context_too_long: return 400;
    case ErrorCode::unauthenticated: return 401;
    case ErrorCode::permission_denied: return 403;
    case ErrorCode::not_found: return 404;
    case ErrorCode::resource_exhausted: return 429;
    case ErrorCode::cancelled: return 499;
    case ErrorCode::unsupported: return 501;
    case ErrorCode::unavailable:
    case ErrorCode::out_of_memory: return 503;
    case ErrorCode::deadline_exceeded: return 504;
    case ErrorCode::invalid_file:
    case ErrorCode::io:
    case ErrorCode::internal: return 500;
  }
  return 500;
}

std::string error_json(int status, std::string_view message, std::string_view param) {
  return fmt::format(R"({{"error":{{"message":{},"type":"{}","param":{},"code":{}}}}})", json_quote(message), error_type(status),
                     param.empty() ? "null" : json_quote(param), status);
}

std::string error_json(const Error& error) { return error_json(http_status(error.code), error.message, param_of(error)); }

http::Response error_response(int status, std::string_view message, std::string_view param) {
  http::Response response{status, {{"Content-Type", "application/json"}}, error_json(status, message, param)};
  if (status == 429 || status == 503) response.headers.emplace_back("Retry-After", "1");
  if (status == 401) {
    response.headers.emplace_back("WWW-Authenticate", "Bearer");
    response.body = R"({"error":"Unauthorized"})";
  }
  return response;
}

http::Response error_response(const Error& error) { return error_response(http_status(error.code), error.message, param_of(error)); }

}  // namespace pagemill::api
