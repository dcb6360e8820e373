// Any bytes through the JSON layer: no crash; what is accepted is UTF-8, within the depth, and can be read again once
// written; what is quoted reads back.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "base/json.h"

namespace {

void require(bool condition) {
  if (!condition) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace pagemill;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  if (const auto value = parse_json(text)) {
    require(valid_utf8(text));
    // Not compared: Boost.JSON reads some decimal fractions one unit in the last place off.
    require(parse_json(json::serialize(*value)).has_value());
  }
  const auto quoted = parse_json(json_quote(text));
  require(quoted.has_value() && quoted->is_string());
  require(!valid_utf8(text) || quoted->as_string() == json::string_view(text.data(), text.size()));
  return 0;
}
