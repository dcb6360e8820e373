// Strict JSON: RFC 8259 by Boost.JSON, with bounds, and with what it lets pass refused: duplicate keys and broken UTF-8.
#pragma once

#include <string>
#include <string_view>

#include <boost/json.hpp>

#include "base/limits.h"
#include "base/result.h"

namespace pagemill {

namespace json = boost::json;

struct JsonLimits {
  size_t bytes_max = limits::kJsonBytes;
  int depth_max = limits::kJsonDepth;
};

/// Parses one document with nothing after it. The error's message gives the byte where it went wrong.
/// Object order is kept. Numbers that do not fit 64 bits become doubles; infinities are errors.
Result<json::value> parse_json(std::string_view text, const JsonLimits& bounds = {});

/// `text` as a JSON string with its quotes. Broken UTF-8 becomes U+FFFD.
std::string json_quote(std::string_view text);

/// True if `text` is well-formed UTF-8 (no surrogates, no overlong forms, at most U+10FFFF).
bool valid_utf8(std::string_view text);

}  // namespace pagemill
