// Fields of a JSON body: each is taken once by name and type, and what is left over is an error. So no field can be
// smuggled in that a route does not know.
#pragma once

#include <optional>
#include <set>
#include <string>
#include <string_view>

#include "base/json.h"
#include "base/limits.h"
#include "chat/problem.h"

namespace pagemill::chat {

/// Between `chars_min` and `chars_max` characters, no control characters but tab and line ends (those only where `lines`).
Outcome<void> check_text(std::string_view text, std::string_view field, size_t chars_min, size_t chars_max, bool lines = false);
/// Characters of valid UTF-8.
size_t utf8_length(std::string_view text);
/// UTF-16 code units of valid UTF-8: the length that JavaScript sees.
size_t utf16_length(std::string_view text);
/// The longest valid prefix of at most `bytes` bytes, broken UTF-8 replaced.
std::string utf8_prefix(std::string_view text, size_t bytes);

inline json::value json_or_null(const std::optional<int64_t>& value) { return value ? json::value(*value) : json::value(nullptr); }
inline json::value json_or_null(const std::optional<std::string>& value) { return value ? json::value(*value) : json::value(nullptr); }

/// Reads one object. Errors name the field. Call done() at the end.
class Fields {
 public:
  explicit Fields(const json::object& object) : object_(object) {}

  bool has(std::string_view name) const { return object_.if_contains(key(name)) != nullptr; }
  /// Null counts as absent.
  Outcome<std::optional<std::string>> text(std::string_view name, size_t bytes_max = limits::kChatBodyBytes);
  Outcome<std::string> required_text(std::string_view name, size_t bytes_max = limits::kChatBodyBytes);
  Outcome<std::optional<bool>> boolean(std::string_view name);
  Outcome<std::optional<int64_t>> integer(std::string_view name, int64_t minimum, int64_t maximum);
  Outcome<std::optional<double>> number(std::string_view name, double minimum, double maximum);
  /// 32 hexadecimal digits.
  Outcome<std::optional<std::string>> id(std::string_view name);
  Outcome<const json::object*> object(std::string_view name);  // null where absent
  Outcome<const json::array*> array(std::string_view name, size_t size_max);
  /// 400 unknown_field for what nobody has asked for.
  Outcome<void> done() const;

 private:
  static json::string_view key(std::string_view name) { return {name.data(), name.size()}; }
  const json::value* take(std::string_view name);
  tl::unexpected<Problem> wrong(std::string_view name, std::string_view expected) const;

  const json::object& object_;
  std::set<std::string, std::less<>> taken_;
};

}  // namespace pagemill::chat
