// Runs another program and collects what it prints.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "base/result.h"

namespace pagemill {

struct ChildOutput {
  std::string out, errors;  // its standard output and its standard error, at most 16 MiB each
};

/// No shell; stdin is /dev/null. A program that cannot be started or that ends with anything but 0 is an error, with the last
/// line that it complained with.
Result<ChildOutput> run_and_read(const std::filesystem::path& program, const std::vector<std::string>& arguments);

}  // namespace pagemill
