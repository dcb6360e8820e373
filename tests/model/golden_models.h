// The models that goldens exist for.
#pragma once

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

using test::default_model_path;

}  // namespace pagemill
