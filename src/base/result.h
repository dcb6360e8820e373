// Result<T>: what every operation returns that a file, a request, a flag or the system can make fail.
//
// Exceptions do not cross folder borders; CHECK (check.h) is for bugs only. A message is written for the person who
// has to act: it names the file, field or flag and says what to do.
#pragma once

#include <string>
#include <utility>

#include <tl/expected.hpp>

namespace pagemill {

/// What kind of failure it is; `api` maps it to an HTTP status, `cli` to an exit code.
enum class ErrorCode {
  invalid_argument,    // a parameter, flag or field is wrong: the caller must change it
  invalid_file,        // a file is damaged, lying or of a kind that is not understood
  not_found,           // a file, model or object that was named does not exist
  unauthenticated,     // no credential, or one that nobody knows
  permission_denied,   // a known credential without the right
  context_too_long,    // the prompt (with its answer) does not fit the model's context
  resource_exhausted,  // a queue, a limit or a quota is full: try again later
  out_of_memory,       // the memory budget does not allow it
  unavailable,         // loading, draining or stalled
  cancelled,           // the caller withdrew it
  deadline_exceeded,   // its time was up
  unsupported,         // well-formed, but this build or machine cannot do it
  io,                  // the operating system refused: disk, socket, device
  internal,            // a bug of ours, reported instead of hidden
};

/// "invalid_argument", … (stable names, used in logs and JSON).
std::string_view to_string(ErrorCode code);

struct Error {
  ErrorCode code = ErrorCode::internal;
  std::string message;  // a whole sentence, no trailing newline
  std::string field;    // the JSON field, metadata key or flag at fault; empty where there is none

  /// The same error with "context: " before its message (a file name, an option).
  Error within(std::string_view context) &&;
};

template <class T>
using Result = tl::expected<T, Error>;

/// `return fail(ErrorCode::invalid_file, "…")`, with the field at fault as a third argument.
tl::unexpected<Error> fail(ErrorCode code, std::string message, std::string field = {});

}  // namespace pagemill

#define PM_CONCAT_INNER(a, b) a##b
#define PM_CONCAT(a, b) PM_CONCAT_INNER(a, b)

/// PM_TRY(expr): leave the function with expr's error, if it has one.
#define PM_TRY(expr)                                                        \
  do {                                                                      \
    if (auto pm_result_ = (expr); !pm_result_) [[unlikely]]                 \
      return ::tl::unexpected(std::move(pm_result_).error());               \
  } while (false)

/// PM_ASSIGN(auto x, expr): x becomes expr's value, or the function is left with its error.
#define PM_ASSIGN(declaration, expr) PM_ASSIGN_INNER(PM_CONCAT(pm_result_, __LINE__), declaration, expr)
#define PM_ASSIGN_INNER(name, declaration, expr)                            \
  auto name = (expr);                                                       \
  if (!name) [[unlikely]]                                                   \
    return ::tl::unexpected(std::move(name).error());                       \
  declaration = std::move(*name)
