#include "chat/template_text.h"

#include <algorithm>
#include <ctime>
#include <filesystem>
#include <fstream>

#include <fmt/format.h>

#include "chat/time_zone.h"
#include "chat/utf8.h"

namespace pagemill::chat {
namespace {

constexpr size_t kNameBytesMax = 120;
constexpr std::string_view kSystem[] = {"CURRENT_DATE", "CURRENT_TIME", "CURRENT_DATETIME", "CURRENT_WEEKDAY", "CURRENT_TIMEZONE", "USER_NAME", "USER_EMAIL", "USER_LANGUAGE", "CLIPBOARD"};

bool is_name(std::string_view name) {
  if (name.empty() || name.size() > kNameBytesMax) return false;
  for (size_t at = 0; at < name.size();) {
    const char32_t c = next_code_point(name, at);
    const bool ascii = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || c == '-';
    if (!ascii && (c < 0xC0 || (c >= 0x2000 && c <= 0x2E7F) || (c >= 0x3000 && c <= 0x3004) || c == 0xFFFD)) return false;
  }
  return true;
}

struct Place {
  size_t begin = 0, end = 0;             // with the braces
  std::string name;
};

/// The next {{name}} from `at` on.
std::optional<Place> next_place(std::string_view text, size_t at) {
  for (size_t open = text.find("{{", at); open != std::string_view::npos; open = text.find("{{", open + 1)) {
    const size_t close = text.find("}}", open + 2);
    if (close == std::string_view::npos) return std::nullopt;
    std::string_view name = text.substr(open + 2, close - open - 2);
    while (name.starts_with(' ')) name.remove_prefix(1);
    while (name.ends_with(' ')) name.remove_suffix(1);
    if (is_name(name)) return Place{open, close + 2, std::string(name)};
  }
  return std::nullopt;
}

}  // namespace

bool is_system_variable(std::string_view name) { return std::find(std::begin(kSystem), std::end(kSystem), name) != std::end(kSystem); }

std::vector<std::string> variables_in(std::string_view text) {
  std::vector<std::string> names;
  for (auto place = next_place(text, 0); place; place = next_place(text, place->end))
    if (std::find(names.begin(), names.end(), place->name) == names.end()) names.push_back(place->name);
  return names;
}

std::string fill_in(std::string_view text, const std::function<std::optional<std::string>(const std::string&)>& value) {
  std::string out;
  size_t at = 0;
  for (auto place = next_place(text, 0); place; place = next_place(text, place->end)) {
    out.append(text.substr(at, place->begin - at));
    const auto filled = value(place->name);
    out.append(filled ? *filled : std::string(text.substr(place->begin, place->end - place->begin)));
    at = place->end;
  }
  return out.append(text.substr(at));
}

std::optional<std::string> system_value(const std::string& name, const SystemValues& values) {
  const bool chinese = values.language.starts_with("zh");
  const int64_t offset_s = zone_offset_s(values.timezone, values.now_ms / 1000).value_or(0);
  const std::time_t local = static_cast<std::time_t>(values.now_ms / 1000 + offset_s);
  std::tm t{};
  gmtime_r(&local, &t);
  static constexpr const char* kDays[] = {"Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"};
  static constexpr const char* kChineseDays[] = {"星期日", "星期一", "星期二", "星期三", "星期四", "星期五", "星期六"};
  const std::string date = fmt::format("{:04}-{:02}-{:02}", t.tm_year + 1900, t.tm_mon + 1, t.tm_mday), time = fmt::format("{:02}:{:02}", t.tm_hour, t.tm_min);
  if (name == "CURRENT_DATE") return date;
  if (name == "CURRENT_TIME") return time;
  if (name == "CURRENT_DATETIME") return date + " " + time;
  if (name == "CURRENT_WEEKDAY") return std::string(chinese ? kChineseDays[t.tm_wday] : kDays[t.tm_wday]);
  if (name == "CURRENT_TIMEZONE") return zone_offset_s(values.timezone, values.now_ms / 1000) ? values.timezone : "UTC";
  if (name == "USER_NAME") return values.user_name;
  if (name == "USER_EMAIL") return values.user_email;
  if (name == "USER_LANGUAGE") return values.language.empty() ? "en" : values.language;
  return std::nullopt;
}

}  // namespace pagemill::chat
