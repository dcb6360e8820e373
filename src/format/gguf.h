// GGUF v2 and v3: strict reading (every length is checked against the file before anything is allocated) and mapping.
#pragma once

#include <filesystem>
#include <memory>
#include <string>

#include "format/weight_source.h"

namespace pagemill {

/// Opens a GGUF file, or all parts of a split one when given the first ("…-00001-of-00003.gguf"), maps it read-only
/// and checks its whole structure. Allocates at most the size of the metadata plus limits::kLoadSlackBytes.
/// Errors name the file and the field. The tensors' values are not looked at.
Result<std::unique_ptr<WeightSource>> open_gguf(const std::filesystem::path& path);

/// The same for a file that is in memory already; a split one is refused. `name` is what messages call it.
Result<std::unique_ptr<WeightSource>> open_gguf_image(std::string name, std::string bytes);

}  // namespace pagemill
