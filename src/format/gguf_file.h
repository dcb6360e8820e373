// The structure of one GGUF file: header, metadata and tensor infos, checked against the file's size.
#pragma once

#include <cstddef>
#include <span>
#include <string_view>
#include <vector>

#include "format/gguf_metadata.h"
#include "format/weight_source.h"

namespace pagemill {

struct GgufFile {
  uint32_t version = 0;
  GgufMetadata metadata;
  std::vector<TensorView> tensors;  // views into the bytes given to read_gguf_file, in the file's order
};

/// Reads and checks everything but the tensors' values. Within the file: names are unique, every tensor lies inside the
/// data section at an aligned offset and no two overlap. `file` is what messages call it; `bytes` outlives the result and is
/// aligned to 8 bytes or better.
Result<GgufFile> read_gguf_file(std::string_view file, std::span<const std::byte> bytes);

}  // namespace pagemill
