#include "chat/fields.h"

#include <fmt/format.h>

#include "chat/ids.h"

namespace pagemill::chat {

size_t utf8_length(std::string_view text) {
  size_t count = 0;
  for (const char c : text) count += (static_cast<unsigned char>(c) & 0xC0) != 0x80;
  return count;
}

size_t utf16_length(std::string_view text) {
  size_t count = 0;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    count += (byte & 0xC0) != 0x80;
    count += byte >= 0xF0;  // a surrogate pair
  }
  return count;
}

std::string utf8_prefix(std::string_view text, size_t bytes) {
  std::string out(text.substr(0, bytes));
  while (!out.empty() && bytes < text.size() && (static_cast<unsigned char>(text[out.size()]) & 0xC0) == 0x80) out.pop_back();
  for (char& c : out)
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7F) c = ' ';
  if (valid_utf8(out)) return out;
  for (char& c : out)
    if (static_cast<unsigned char>(c) >= 0x80) c = '?';
  return out;
}

Outcome<void> check_text(std::string_view text, std::string_view field, size_t chars_min, size_t chars_max, bool lines) {
  const size_t chars = utf8_length(text);
  if (chars < chars_min || chars > chars_max) return refuse(400, "invalid_argument", fmt::format("'{}' must have {} to {} characters, not {}.", field, chars_min, chars_max, chars), std::string(field));
  for (const char c : text) {
    if (lines && (c == '\n' || c == '\t' || c == '\r')) continue;
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7F) return refuse(400, "invalid_argument", fmt::format("'{}' must not hold control characters.", field), std::string(field));
  }
  return {};
}

const json::value* Fields::take(std::string_view name) {
  taken_.emplace(name);
  const json::value* value = object_.if_contains(key(name));
  return value && !value->is_null() ? value : nullptr;
}

tl::unexpected<Problem> Fields::wrong(std::string_view name, std::string_view expected) const {
  return refuse(400, "invalid_argument", fmt::format("'{}' must be {}.", name, expected), std::string(name));
}

Outcome<std::optional<std::string>> Fields::text(std::string_view name, size_t bytes_max) {
  const json::value* value = take(name);
  if (!value) return std::nullopt;
  if (!value->is_string()) return wrong(name, "a string");
  std::string text(value->get_string());
  if (text.size() > bytes_max) return refuse(413, "too_large", fmt::format("'{}' has {} bytes; {} at most.", name, text.size(), bytes_max), std::string(name));
  // U+FDD0 is the mark that keeps text apart from a model's special tokens.
  if (text.find('\0') != std::string::npos || text.find("\xEF\xB7\x90") != std::string::npos) return wrong(name, "text without the characters U+0000 and U+FDD0");
  return text;
}

Outcome<std::string> Fields::required_text(std::string_view name, size_t bytes_max) {
  PM_ASSIGN(auto text, this->text(name, bytes_max));
  if (!text) return refuse(400, "missing_field", fmt::format("'{}' is missing.", name), std::string(name));
  return std::move(*text);
}

Outcome<std::optional<bool>> Fields::boolean(std::string_view name) {
  const json::value* value = take(name);
  if (!value) return std::nullopt;
  if (!value->is_bool()) return wrong(name, "true or false");
  return value->get_bool();
}

Outcome<std::optional<int64_t>> Fields::integer(std::string_view name, int64_t minimum, int64_t maximum) {
  const json::value* value = take(name);
  if (!value) return std::nullopt;
  const std::string expected = fmt::format("an integer from {} to {}", minimum, maximum);
  if (value->is_uint64() || !value->is_int64()) return wrong(name, expected);  // beyond int64, or no integer
  if (value->get_int64() < minimum || value->get_int64() > maximum) return wrong(name, expected);
  return value->get_int64();
}

Outcome<std::optional<double>> Fields::number(std::string_view name, double minimum, double maximum) {
  const json::value* value = take(name);
  if (!value) return std::nullopt;
  const double number = value->is_number() ? value->to_number<double>() : minimum - 1;
  if (!(number >= minimum && number <= maximum)) return wrong(name, fmt::format("a number from {} to {}", minimum, maximum));
  return number;
}

Outcome<std::optional<std::string>> Fields::id(std::string_view name) {
  PM_ASSIGN(auto text, this->text(name, 64));
  if (text && !is_id(*text)) return wrong(name, "an id: 32 hexadecimal digits");
  return text;
}

Outcome<const json::object*> Fields::object(std::string_view name) {
  const json::value* value = take(name);
  if (value && !value->is_object()) return wrong(name, "an object");
  return value ? &value->get_object() : nullptr;
}

Outcome<const json::array*> Fields::array(std::string_view name, size_t size_max) {
  const json::value* value = take(name);
  if (value && (!value->is_array() || value->get_array().size() > size_max)) return wrong(name, fmt::format("a list of at most {} entries", size_max));
  return value ? &value->get_array() : nullptr;
}

Outcome<void> Fields::done() const {
  for (const auto& [name, value] : object_)
    if (!taken_.contains(std::string_view(name.data(), name.size())))
      return refuse(400, "unknown_field", fmt::format("The field '{}' is not known here.", utf8_prefix(std::string_view(name.data(), name.size()), 64)), utf8_prefix(std::string_view(name.data(), name.size()), 64));
  return {};
}

}  // namespace pagemill::chat
