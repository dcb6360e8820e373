// Problem: why the chat page's server refuses something: a status and a stable reason for the page to translate, beside the
// message for people. Every Error becomes one.
#pragma once

#include <string>
#include <utility>

#include "base/json.h"
#include "base/result.h"

namespace pagemill::chat {

struct Problem {
  int status = 500;
  std::string reason = "internal";     // docs/chat_api.md lists them
  std::string message;
  std::string field;
  json::object detail;
  int retry_after_s = 0;               // 0 = no Retry-After, but for 429 and 503

  Problem() = default;
  Problem(int status_of, std::string reason_of, std::string message_of, std::string field_of = {})
      : status(status_of), reason(std::move(reason_of)), message(std::move(message_of)), field(std::move(field_of)) {}
  Problem(const Error& error);  // NOLINT: PM_TRY turns one into the other
};

template <class T>
using Outcome = tl::expected<T, Problem>;

inline tl::unexpected<Problem> refuse(int status, std::string reason, std::string message, std::string field = {}) {
  return tl::unexpected(Problem(status, std::move(reason), std::move(message), std::move(field)));
}
/// Does not exist, or is not theirs: the two must not be told apart.
inline tl::unexpected<Problem> missing(std::string_view what) { return refuse(404, "not_found", std::string(what) + " does not exist."); }

/// {"error":{…}}
std::string problem_json(const Problem& problem);

}  // namespace pagemill::chat
