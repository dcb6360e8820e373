#include "base/result.h"

namespace pagemill {

std::string_view to_string(ErrorCode code) {
  switch (code) {
    case ErrorCode::invalid_argument: return "invalid_argument";
    case ErrorCode::invalid_file: return "invalid_file";
    case ErrorCode::not_found: return "not_found";
    case ErrorCode::unauthenticated: return "unauthenticated";
    case ErrorCode::permission_denied: return "permission_denied";
    case ErrorCode::context_too_long: return "context_too_long";
    case ErrorCode::resource_exhausted: return "resource_exhausted";
    case ErrorCode::out_of_memory: return "out_of_memory";
    case ErrorCode::unavailable: return "unavailable";
    case ErrorCode::cancelled: return "cancelled";
    case ErrorCode::deadline_exceeded: return "deadline_exceeded";
    case ErrorCode::unsupported: return "unsupported";
    case ErrorCode::io: return "io";
    case ErrorCode::internal: return "internal";
  }
  return "internal";
}

Error Error::within(std::string_view context) && {
  message.insert(0, std::string(context) + ": ");
  return std::move(*this);
}

tl::unexpected<Error> fail(ErrorCode code, std::string message, std::string field) {
  return tl::unexpected(Error{code, std::move(message), std::move(field)});
}

}  // namespace pagemill
