#include "cli/output.h"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

namespace pagemill {
namespace {

bool scalar(const json::value& value) { return !value.is_object() && !value.is_array(); }

void write_json(std::string& out, const json::value& value, int depth) {
  const std::string inner(2 * (depth + 1), ' '), outer(2 * depth, ' ');
  if (const json::object* object = value.if_object(); object != nullptr && !object->empty()) {
    std::string_view separator = "{\n";
    for (const auto& [key, member] : *object) {
      out += separator;
      out += inner + json::serialize(key) + ": ";
      write_json(out, member, depth + 1);
      separator = ",\n";
    }
    out += "\n" + outer + "}";
  } else if (const json::array* array = value.if_array(); array != nullptr && !std::all_of(array->begin(), array->end(), scalar)) {
    std::string_view separator = "[\n";
    for (const json::value& element : *array) {
      out += separator;
      out += inner;
      write_json(out, element, depth + 1);
      separator = ",\n";
    }
    out += "\n" + outer + "]";
  } else if (const double* number = value.if_double()) {
    out += std::isfinite(*number) ? fmt::format("{:.6g}", *number) : "null";
  } else {
    out += json::serialize(value);
  }
}

/// Whether a terminal draws the character two columns wide: the blocks of East Asian scripts and emoji.
bool is_wide(uint32_t c) {
  static constexpr uint32_t kWide[][2] = {{0x1100, 0x115f}, {0x2e80, 0xa4cf}, {0xac00, 0xd7a3}, {0xf900, 0xfaff}, {0xfe30, 0xfe4f},
                                          {0xff00, 0xff60}, {0xffe0, 0xffe6}, {0x1f300, 0x1f64f}, {0x1f900, 0x1f9ff}, {0x20000, 0x3fffd}};
  return std::any_of(std::begin(kWide), std::end(kWide), [c](const auto& range) { return c >= range[0] && c <= range[1]; });
}

/// Columns that well-formed UTF-8 takes on a terminal.
size_t columns(std::string_view text) {
  size_t out = 0;
  for (size_t i = 0; i < text.size();) {
    const auto lead = static_cast<unsigned char>(text[i]);
    const size_t length = lead < 0x80 ? 1 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
    uint32_t c = length == 1 ? lead : lead & (0x7f >> length);
    for (size_t j = 1; j < length && i + j < text.size(); ++j) c = c << 6 | (static_cast<unsigned char>(text[i + j]) & 0x3f);
    out += is_wide(c) ? 2 : 1;
    i += length;
  }
  return out;
}

std::string scaled(double value, double base, const char* const* prefixes, int count, std::string_view unit) {
  int step = 0;
  while (step + 1 < count && std::abs(value) >= base * 0.9995) {
    value /= base;
    ++step;
  }
  const int decimals = value >= 99.95 || value == std::floor(value) ? 0 : value >= 9.995 ? 1 : 2;
  return fmt::format("{:.{}f} {}{}", value, decimals, prefixes[step], unit);
}

}  // namespace

std::string pretty_json(const json::value& value) {
  std::string out;
  write_json(out, value, 0);
  return out + "\n";
}

std::string render_table(const std::vector<std::vector<std::string>>& rows, bool last_left) {
  std::vector<size_t> widths;
  for (const auto& row : rows) {
    widths.resize(std::max(widths.size(), row.size()));
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], columns(row[i]));
  }
  std::string out;
  for (const auto& row : rows) {
    std::string line;
    for (size_t i = 0; i < row.size(); ++i) {
      const std::string padding(widths[i] - columns(row[i]), ' ');
      const bool left = i == 0 || (last_left && i + 1 == widths.size());
      line += (i == 0 ? "" : "  ") + (left ? row[i] + padding : padding + row[i]);
    }
    line.erase(line.find_last_not_of(' ') + 1);
    out += line + "\n";
  }
  return out;
}

std::string with_prefix(double value, std::string_view unit) {
  static constexpr const char* kPrefixes[] = {"", "k", "M", "G", "T", "P"};
  return scaled(value, 1000, kPrefixes, std::size(kPrefixes), unit);
}

std::string grouped_digits(int64_t value) {
  std::string digits = std::to_string(value);
  const size_t first = value < 0 ? 1 : 0;
  for (size_t at = digits.size(); at > first + 3;) digits.insert(at -= 3, ",");
  return digits;
}

std::string bytes_text(double bytes) {
  static constexpr const char* kPrefixes[] = {"", "Ki", "Mi", "Gi", "Ti"};
  return scaled(bytes, 1024, kPrefixes, std::size(kPrefixes), "B");
}

}  // namespace pagemill
