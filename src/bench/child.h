// Runs another program and collects what it prints.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "base/result.h"

namespace pagemill {

/// The program's standard output, at most 16 MiB. No shell; stdin and stderr are /dev/null. A program that cannot be started or
/// that ends with anything but 0 is an error.
Result<std::string> run_and_read(const std::filesystem::path& program, const std::vector<std::string>& arguments);

}  // namespace pagemill
