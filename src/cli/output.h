// How commands print: JSON for scripts, tables and units for people.
#pragma once

#include <string>
#include <vector>

#include "base/json.h"

namespace pagemill {

/// Indented JSON with a newline at its end. Arrays of scalars stay on one line.
std::string pretty_json(const json::value& value);

/// Columns aligned by their widest cell, two spaces apart; the first to the left, the others to the right, the last to the left
/// where `last_left`. Cells are counted in characters, not bytes. An empty row is a blank line.
std::string render_table(const std::vector<std::vector<std::string>>& rows, bool last_left = false);

/// "12.3 GB/s" and "1.78 T": three significant digits with a decimal prefix.
std::string with_prefix(double value, std::string_view unit);
/// "49,152".
std::string grouped_digits(int64_t value);
/// "93.8 MiB".
std::string bytes_text(double bytes);

}  // namespace pagemill
