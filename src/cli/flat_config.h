// A configuration file whose keys are the long flags of a command: the flat part of YAML and TOML, which is what such files use.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"

namespace pagemill {

/// A key with one value, or with each value of a list. Underscores in keys read as dashes.
using FlatSetting = std::pair<std::string, std::vector<std::string>>;

/// `key: value` or `key = value` a line; values plain, quoted, `[a, b]`, or (YAML) `- item` lines below the key; # begins a
/// comment. Errors give the line: nested tables, tabs where YAML forbids them, a key twice, an open quote.
Result<std::vector<FlatSetting>> parse_flat_config(std::string_view text);

}  // namespace pagemill
