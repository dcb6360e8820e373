// Logging: spdlog behind four functions. Lines go to stderr; never a prompt, key, cookie or password.
#pragma once

#include <string_view>

#include <fmt/format.h>

namespace pagemill {

enum class LogLevel { debug, info, warning, error, off };

/// Sets the level of everything that follows; `json` writes one JSON object a line. Call before threads start.
void configure_log(LogLevel level, bool json = false);
void write_log(LogLevel level, std::string_view message);
/// A line with fields: as text `message` alone, as JSON an object with `fields` (`"a":1,"b":"x"`) beside the message.
void write_log(LogLevel level, std::string_view message, std::string_view fields);
bool log_enabled(LogLevel level);

template <class... Args>
void log_debug(fmt::format_string<Args...> format, Args&&... args) {
  if (log_enabled(LogLevel::debug)) write_log(LogLevel::debug, fmt::format(format, std::forward<Args>(args)...));
}
template <class... Args>
void log_info(fmt::format_string<Args...> format, Args&&... args) {
  if (log_enabled(LogLevel::info)) write_log(LogLevel::info, fmt::format(format, std::forward<Args>(args)...));
}
template <class... Args>
void log_warning(fmt::format_string<Args...> format, Args&&... args) {
  if (log_enabled(LogLevel::warning)) write_log(LogLevel::warning, fmt::format(format, std::forward<Args>(args)...));
}
template <class... Args>
void log_error(fmt::format_string<Args...> format, Args&&... args) {
  if (log_enabled(LogLevel::error)) write_log(LogLevel::error, fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace pagemill
