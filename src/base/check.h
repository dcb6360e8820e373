// PM_CHECK(condition, "format", args…): stops the program when the program itself is wrong. Never for input.
#pragma once

#include <string>
#include <utility>

#include <fmt/format.h>

namespace pagemill {

/// Prints file:line, the condition and the message to stderr and aborts.
[[noreturn]] void check_failed(const char* file, int line, const char* condition, const std::string& message);

namespace detail {
inline std::string check_message() { return {}; }
template <class... Args>
std::string check_message(fmt::format_string<Args...> format, Args&&... args) {
  return fmt::format(format, std::forward<Args>(args)...);
}
}  // namespace detail

}  // namespace pagemill

#define PM_CHECK(condition, ...)                                                                            \
  (static_cast<bool>(condition)                                                                             \
       ? static_cast<void>(0)                                                                               \
       : ::pagemill::check_failed(__FILE__, __LINE__, #condition, ::pagemill::detail::check_message(__VA_ARGS__)))
