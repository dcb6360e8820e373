// The models that goldens exist for.
#pragma once

#include <cstdlib>
#include <filesystem>
#include <string>

#include "support/golden_logits.h"
#include "support/paths.h"

namespace pagemill {

inline std::filesystem::path golden_path(const std::string& file) {
  return test::source_path("tests/model/goldens/" + file);
}

inline GoldenLogits golden_logits(const std::string& model) {
  auto golden = read_golden_logits(golden_path(model + ".logits"));
  EXPECT_TRUE(golden) << golden.error().message;
  return golden.value_or(GoldenLogits{});
}

/// Where script/setup keeps the default model.
inline std::filesystem::path default_model_path() {
  const char *cache = std::getenv("XDG_CACHE_HOME"), *home = std::getenv("HOME");
  const std::filesystem::path base = cache != nullptr && *cache != 0 ? std::filesystem::path(cache)
                                                                     : std::filesystem::path(home == nullptr ? "" : home) / ".cache";
  return base / "pagemill/models/SmolLM2-135M-Instruct.Q4_1.gguf";
}

}  // namespace pagemill
