// Where the repository's data lies, for tests.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>

namespace pagemill::test {

/// `path` is relative to the repository's root, "tests/model/goldens/rope.json".
std::string source_path(std::string_view path);

/// Where script/setup keeps the default model.
std::filesystem::path default_model_path();

}  // namespace pagemill::test
