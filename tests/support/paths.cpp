#include "support/paths.h"

#include <cstdlib>

namespace pagemill::test {

std::string source_path(std::string_view path) { return std::string(PAGEMILL_SOURCE_DIR "/").append(path); }

std::filesystem::path default_model_path() {
  const char *cache = std::getenv("XDG_CACHE_HOME"), *home = std::getenv("HOME");
  const std::filesystem::path base = cache != nullptr && *cache != 0 ? std::filesystem::path(cache)
                                                                     : std::filesystem::path(home == nullptr ? "" : home) / ".cache";
  return base / "pagemill/models/SmolLM2-135M-Instruct.Q4_1.gguf";
}

}  // namespace pagemill::test
