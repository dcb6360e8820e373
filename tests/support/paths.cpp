#include "support/paths.h"

namespace pagemill::test {

std::string source_path(std::string_view path) { return std::string(PAGEMILL_SOURCE_DIR "/").append(path); }

}  // namespace pagemill::test
