// From an Error to HTTP: vLLM's status, type and JSON shape.
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"
#include "http/server.h"

namespace pagemill::api {

int http_status(ErrorCode code);

/// {"error":{"message":…,"type":…,"param":…,"code":status}}.
std::string error_json(int status, std::string_view message, std::string_view param = {});
std::string error_json(const Error& error);

/// The whole answer; 429 and 503 with Retry-After, 401 with vLLM's own body and WWW-Authenticate.
http::Response error_response(int status, std::string_view message, std::string_view param = {});
http::Response error_response(const Error& error);

}  // namespace pagemill::api
