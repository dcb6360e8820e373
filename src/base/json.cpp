#include "base/json.h"

#include <boost/json/basic_parser_impl.hpp>
#include <cmath>
#include <unordered_set>
#include <vector>

namespace pagemill {
namespace {

/// Finds the first object that names a key twice; objects keep duplicates out of the tree, so this runs beside the parser.
class DuplicateKeyScan {
 public:
  struct Handler {
    static constexpr size_t max_object_size = SIZE_MAX;
    static constexpr size_t max_array_size = SIZE_MAX;
    static constexpr size_t max_key_size = SIZE_MAX;
    static constexpr size_t max_string_size = SIZE_MAX;
    using Code = boost::system::error_code;

    std::vector<std::unordered_set<std::string>> objects;
    std::string key;
    std::string duplicate;
    bool found = false;

    bool on_document_begin(Code&) { return true; }
    bool on_document_end(Code&) { return true; }
    bool on_object_begin(Code&) { objects.emplace_back(); return true; }
    bool on_object_end(size_t, Code&) { objects.pop_back(); return true; }
    bool on_array_begin(Code&) { return true; }
    bool on_array_end(size_t, Code&) { return true; }
    bool on_key_part(json::string_view part, size_t, Code&) { key.append(part.data(), part.size()); return true; }
    bool on_key(json::string_view part, size_t, Code& code) {
      key.append(part.data(), part.size());
      if (!objects.back().insert(key).second) {
        duplicate = key;
        found = true;
        code = json::error::syntax;
        return false;
      }
      key.clear();
      return true;
    }
    bool on_string_part(json::string_view, size_t, Code&) { return true; }
    bool on_string(json::string_view, size_t, Code&) { return true; }
    bool on_number_part(json::string_view, Code&) { return true; }
    bool on_int64(int64_t, json::string_view, Code&) { return true; }
    bool on_uint64(uint64_t, json::string_view, Code&) { return true; }
    bool on_double(double value, json::string_view, Code& code) {
      if (!std::isfinite(value)) code = json::error::exponent_overflow;
      return std::isfinite(value);
    }
    bool on_bool(bool, Code&) { return true; }
    bool on_null(Code&) { return true; }
    bool on_comment_part(json::string_view, Code&) { return true; }
    bool on_comment(json::string_view, Code&) { return true; }
  };

  explicit DuplicateKeyScan(const json::parse_options& options) : parser_(options) {}

  Result<void> run(std::string_view text) {
    boost::system::error_code code;
    const size_t used = parser_.write_some(false, text.data(), text.size(), code);
    const Handler& handler = parser_.handler();
    if (handler.found)
      return fail(ErrorCode::invalid_argument, fmt_at("the key \"" + handler.duplicate + "\" appears twice in one object", used), handler.duplicate);
    if (code) return fail(ErrorCode::invalid_argument, fmt_at("not valid JSON (" + code.message() + ")", used));
    const size_t rest = text.find_first_not_of(" \t\r\n", used);
    if (rest != std::string_view::npos)
      return fail(ErrorCode::invalid_argument, fmt_at("unexpected text after the JSON document", rest));
    return {};
  }

 private:
  static std::string fmt_at(const std::string& what, size_t position) { return what + " at byte " + std::to_string(position); }
  json::basic_parser<Handler> parser_;
};

/// The length of the UTF-8 sequence at the front of `text`, or 0 if it is broken.
size_t utf8_sequence(std::string_view text) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char lead = byte(0);
  if (lead < 0x80) return 1;
  if (lead < 0xC2 || lead > 0xF4) return 0;
  const size_t length = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
  if (text.size() < length) return 0;
  for (size_t i = 1; i < length; ++i)
    if ((byte(i) & 0xC0) != 0x80) return 0;
  if (lead == 0xE0 && byte(1) < 0xA0) return 0;
  if (lead == 0xED && byte(1) > 0x9F) return 0;
  if (lead == 0xF0 && byte(1) < 0x90) return 0;
  if (lead == 0xF4 && byte(1) > 0x8F) return 0;
  return length;
}

}  // namespace

Result<json::value> parse_json(std::string_view text, const JsonLimits& bounds) {
  if (text.size() > bounds.bytes_max)
    return fail(ErrorCode::invalid_argument, "the JSON document has " + std::to_string(text.size()) + " bytes; at most " +
                                                 std::to_string(bounds.bytes_max) + " are accepted");
  json::parse_options options;
  options.max_depth = static_cast<size_t>(bounds.depth_max);
  PM_TRY(DuplicateKeyScan(options).run(text));
  boost::system::error_code code;
  json::value value = json::parse(text, code, {}, options);
  if (code) return fail(ErrorCode::invalid_argument, "not valid JSON: " + code.message());
  return value;
}

bool valid_utf8(std::string_view text) {
  while (!text.empty()) {
    const size_t length = utf8_sequence(text);
    if (length == 0) return false;
    text.remove_prefix(length);
  }
  return true;
}

std::string json_quote(std::string_view text) {
  if (valid_utf8(text)) return json::serialize(json::string_view(text.data(), text.size()));
  std::string mended;
  while (!text.empty()) {
    const size_t length = utf8_sequence(text);
    mended.append(length ? text.substr(0, length) : std::string_view("\xEF\xBF\xBD"));
    text.remove_prefix(length ? length : 1);
  }
  return json::serialize(json::string_view(mended.data(), mended.size()));
}

}  // namespace pagemill
