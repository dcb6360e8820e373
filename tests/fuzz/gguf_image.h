// A GGUF file taken apart into fields that may each lie, for tests and fuzzing of the reader.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace pagemill {

struct ImageString {
  std::string text;
  std::optional<uint64_t> length;  // what the file says, if not the truth
};

struct ImageKey {
  ImageString key;
  uint32_t type = 0;
  uint32_t element_type = 0;  // arrays
  uint64_t count = 0;         // arrays: what the file says
  std::string payload;        // the value's bytes, of an array its elements'
};

struct ImageTensor {
  ImageString name;
  std::optional<uint32_t> dimensions;  // if not the number of extents
  std::vector<uint64_t> extents;       // contiguous one first
  uint32_t type = 0;
  uint64_t offset = 0;
};

struct GgufImage {
  std::string magic = "GGUF";
  uint32_t version = 3;
  std::optional<uint64_t> tensor_count;  // if not the number of tensors
  std::optional<uint64_t> key_count;
  std::vector<ImageKey> keys;
  std::vector<ImageTensor> tensors;
  std::string data;        // behind the padding
  uint64_t padding_to = 32;  // 0: none

  std::string serialize() const;
  /// Takes a well-formed file apart; nothing for others.
  static std::optional<GgufImage> parse(std::string_view bytes);

  ImageKey* find_key(std::string_view key);
  ImageTensor* find_tensor(std::string_view name);
};

/// `value` in little-endian bytes.
template <class T>
std::string raw(T value) {
  return {reinterpret_cast<const char*>(&value), sizeof value};
}
/// A string as GGUF stores it.
std::string raw_string(std::string_view text);

ImageKey scalar_key(std::string key, uint32_t type, std::string payload);
ImageKey array_key(std::string key, uint32_t element_type, uint64_t count, std::string payload);

/// A small valid file: one key of every type, four tensors.
GgufImage sample_image();

}  // namespace pagemill
