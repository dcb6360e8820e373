// Writes GGUF v3: a header that is laid out in memory, then the tensors' bytes streamed behind it.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/dtype.h"
#include "base/result.h"
#include "format/weight_source.h"

namespace pagemill {

/// What a GGUF file says before its data. Tensors are laid out in the order they are added, without gaps beyond the alignment (32).
class GgufHeader {
 public:
  struct Tensor {
    std::string name;
    DType dtype;
    std::vector<int64_t> shape;  // row-major, as in TensorView
    uint64_t offset;             // from the start of the data
    uint64_t bytes;
  };

  /// Integers are stored in 32 bits where all fit, else in 64; doubles as f32 where that loses nothing. Setting a key
  /// again replaces its value.
  void set(std::string_view key, MetadataScalar value);
  void set(std::string_view key, MetadataArray value);
  void add_tensor(std::string_view name, DType dtype, std::vector<int64_t> shape);

  const std::vector<Tensor>& tensors() const { return tensors_; }
  /// From the start of the data to the end of the last tensor's padding.
  uint64_t data_bytes() const { return data_bytes_; }
  /// Everything before the data, padded to the alignment.
  std::string serialize() const;

 private:
  void set_value(std::string_view key, MetadataValue value);

  std::vector<MetadataEntry> metadata_;
  std::vector<Tensor> tensors_;
  uint64_t data_bytes_ = 0;
};

/// Streams one file: holds no tensor. The file appears under its name only in finish(), whole and flushed; a writer that is
/// destroyed before leaves nothing behind. Not thread-safe.
class GgufWriter {
 public:
  /// Checks that the disk has room for the whole file, then writes the header to a file beside `path`.
  static Result<GgufWriter> create(const std::filesystem::path& path, const GgufHeader& header);
  GgufWriter(GgufWriter&& other) noexcept;
  GgufWriter& operator=(GgufWriter&&) = delete;
  ~GgufWriter();

  /// The next bytes of the tensors in the header's order; a call may cover part of a tensor, not more than one.
  Result<void> append(std::span<const std::byte> bytes);
  /// Puts the file in place, replacing one that was there. Every tensor has been appended in full.
  Result<void> finish();

 private:
  GgufWriter(std::filesystem::path path, std::filesystem::path temporary, int descriptor, std::vector<uint64_t> sizes);
  Result<void> flush();

  std::filesystem::path path_;
  std::filesystem::path temporary_;  // empty once renamed
  int descriptor_;
  std::vector<uint64_t> sizes_;  // bytes of each tensor
  size_t current_ = 0;           // index into sizes_
  uint64_t current_bytes_ = 0;   // already appended of it
  std::string buffer_;
};

/// A whole file in memory: for small models in tests. `data` holds each tensor's bytes in the header's order.
std::string gguf_bytes(const GgufHeader& header, std::span<const std::vector<std::byte>> data);

}  // namespace pagemill
