// Shell completion scripts, generated from the command tree so that they cannot drift from it.
#pragma once

#include <string>

#include <CLI/CLI.hpp>

namespace pagemill {

enum class Shell { bash, zsh, fish };

std::string completion_script(const CLI::App& root, Shell shell);

}  // namespace pagemill
