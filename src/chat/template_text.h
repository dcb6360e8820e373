// The text of a prompt template: {{name}} stands for a value. Values are put in as they are and not looked at again, so no value can be a variable.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace pagemill::chat {

/// Names in the order of their first occurrence; spaces inside the braces do not count. A name has letters, digits, CJK characters, "_" and "-".
std::vector<std::string> variables_in(std::string_view text);
/// Replaces each; a name without a value stays as it is written.
std::string fill_in(std::string_view text, const std::function<std::optional<std::string>(const std::string&)>& value);
bool is_system_variable(std::string_view name);

struct SystemValues {
  std::string user_name, user_email, language, timezone;
  int64_t now_ms = 0;
};
/// The value of a system variable, or nothing for other names. An unknown time zone counts as UTC.
std::optional<std::string> system_value(const std::string& name, const SystemValues& values);

}  // namespace pagemill::chat
