// Help texts, rendered from the command tree: usage, grouped options, examples; at most 90 columns.
#pragma once

#include <string>

#include <CLI/CLI.hpp>

namespace pagemill {

std::string render_help(const CLI::App& command);

/// "pagemill bench machine".
std::string command_path(const CLI::App& command);

/// The values that an option's check allows ("bash", "zsh", …); empty where anything goes.
std::vector<std::string> choices(const CLI::Option& option);

}  // namespace pagemill
