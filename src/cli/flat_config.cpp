#include "cli/flat_config.h"

#include <algorithm>

#include <fmt/format.h>

namespace pagemill {
namespace {

tl::unexpected<Error> bad(int line, std::string_view what) { return fail(ErrorCode::invalid_file, fmt::format("line {}: {}", line, what)); }

std::string_view trim(std::string_view text) {
  const size_t first = text.find_first_not_of(" \t\r");
  return first == std::string_view::npos ? std::string_view() : text.substr(first, text.find_last_not_of(" \t\r") - first + 1);
}

/// Reads one value off the front of `rest`, up to `ends` (outside quotes) or a comment.
Result<std::string> take_value(std::string_view& rest, std::string_view ends, int line) {
  rest = trim(rest);
  if (!rest.empty() && (rest.front() == '"' || rest.front() == '\'')) {
    const char quote = rest.front();
    std::string value;
    for (size_t i = 1; i < rest.size(); ++i) {
      if (rest[i] == quote) {
        rest = trim(rest.substr(i + 1));
        return value;
      }
      if (rest[i] == '\\' && quote == '"' && i + 1 < rest.size()) ++i;
      value += rest[i];
    }
    return bad(line, "a quote is not closed");
  }
  size_t end = std::min(rest.find_first_of(ends), rest.size());
  if (const size_t comment = rest.find(" #"); comment < end) end = comment;
  std::string value(trim(rest.substr(0, end)));
  rest = trim(rest.substr(end));
  return value;
}

Result<std::vector<std::string>> take_list(std::string_view rest, int line) {
  std::vector<std::string> values;
  rest = trim(rest.substr(1));
  while (!rest.starts_with(']')) {
    PM_ASSIGN(std::string value, take_value(rest, ",]", line));
    values.push_back(std::move(value));
    if (rest.starts_with(',')) rest = trim(rest.substr(1));
    else if (!rest.starts_with(']')) return bad(line, "a list is not closed with ]");
  }
  rest = trim(rest.substr(1));
  if (!rest.empty() && rest.front() != '#') return bad(line, "there is text after a list");
  return values;
}

Result<FlatSetting> parse_setting(std::string_view line, int number) {
  const size_t end = line.find_first_of(":=");
  if (end == std::string_view::npos) return bad(number, "expected 'key: value' or 'key = value'");
  std::string key(trim(line.substr(0, end)));
  std::replace(key.begin(), key.end(), '_', '-');
  if (key.empty() || key.find_first_of(" \"'.{}[]") != std::string::npos) return bad(number, "the key is not the name of a flag");
  std::string_view rest = trim(line.substr(end + 1));
  FlatSetting setting{std::move(key), {}};
  if (rest.empty() || rest.front() == '#') return setting;
  if (rest.front() == '{') return bad(number, "tables have no flag; give JSON in quotes where a flag takes JSON");
  if (rest.front() == '[') {
    PM_ASSIGN(setting.second, take_list(rest, number));
    return setting;
  }
  PM_ASSIGN(std::string value, take_value(rest, "", number));
  if (!rest.empty() && rest.front() != '#') return bad(number, "there is text after the value");
  setting.second.push_back(std::move(value));
  return setting;
}

}  // namespace

Result<std::vector<FlatSetting>> parse_flat_config(std::string_view text) {
  std::vector<FlatSetting> settings;
  for (int number = 1; !text.empty(); ++number) {
    const size_t end = std::min(text.find('\n'), text.size());
    const std::string_view whole = text.substr(0, end), line = trim(whole);
    text.remove_prefix(std::min(end + 1, text.size()));
    if (line.empty() || line.front() == '#' || line == "---") continue;
    if (line.front() == '[') return bad(number, "tables are not known here; keys are the long flags");
    if (line.starts_with("- ")) {
      if (settings.empty()) return bad(number, "a list item without a key");
      std::string_view rest = line.substr(2);
      PM_ASSIGN(std::string value, take_value(rest, "", number));
      settings.back().second.push_back(std::move(value));
      continue;
    }
    if (whole.front() == ' ' || whole.front() == '\t') return bad(number, "nested keys are not known here; keys are the long flags");
    PM_ASSIGN(FlatSetting setting, parse_setting(line, number));
    const bool twice = std::any_of(settings.begin(), settings.end(), [&](const FlatSetting& one) { return one.first == setting.first; });
    if (twice) return bad(number, fmt::format("the key {} appears twice", setting.first));
    settings.push_back(std::move(setting));
  }
  return settings;
}

}  // namespace pagemill
