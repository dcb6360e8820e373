#include "base/log.h"

#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>

#include "base/json.h"

namespace pagemill {
namespace {

spdlog::level::level_enum to_spdlog(LogLevel level) {
  switch (level) {
    case LogLevel::debug: return spdlog::level::debug;
    case LogLevel::info: return spdlog::level::info;
    case LogLevel::warning: return spdlog::level::warn;
    case LogLevel::error: return spdlog::level::err;
    case LogLevel::off: return spdlog::level::off;
  }
  return spdlog::level::info;
}

struct Log {
  std::shared_ptr<spdlog::logger> logger = spdlog::stderr_color_mt("pagemill");
  bool json = false;
  Log() { logger->set_pattern("%H:%M:%S.%e %^%l%$ %v"); }
};

Log& log() {
  static Log instance;
  return instance;
}

}  // namespace

void configure_log(LogLevel level, bool json) {
  log().logger->set_level(to_spdlog(level));
  log().json = json;
  log().logger->set_pattern(json ? R"({"time":"%Y-%m-%dT%H:%M:%S.%e%z","level":"%l","message":%v})" : "%H:%M:%S.%e %^%l%$ %v");
}

void write_log(LogLevel level, std::string_view message) {
  if (log().json)
    log().logger->log(to_spdlog(level), "{}", json_quote(message));
  else
    log().logger->log(to_spdlog(level), "{}", message);
}

void write_log(LogLevel level, std::string_view message, std::string_view fields) {
  if (log().json && !fields.empty())
    log().logger->log(to_spdlog(level), "{},{}", json_quote(message), fields);
  else
    write_log(level, message);
}

bool log_enabled(LogLevel level) { return log().logger->should_log(to_spdlog(level)); }

}  // namespace pagemill
