// WeightSource: a model's metadata and tensors, whatever file format they came from. Models know nothing else of files.
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/dtype.h"
#include "base/result.h"

namespace pagemill {

/// A tensor as it lies in the file. `shape` is row-major with the contiguous dimension last: [out, in] for a matrix
/// (the reverse of GGUF's own order). Blocks of a quantised type lie along the last dimension.
struct TensorView {
  std::string name;
  DType dtype = DType::f32;
  std::vector<int64_t> shape;
  std::span<const std::byte> bytes;  // owned by the source, mapped; exactly row_bytes × rows
};

/// Many strings in one buffer: a vocabulary of 150,000 tokens costs its bytes and four more per token. At most 4 GiB.
class StringArray {
 public:
  StringArray() = default;
  StringArray(std::initializer_list<std::string_view> strings);

  size_t size() const { return ends_.size(); }
  bool empty() const { return ends_.empty(); }
  /// Valid until the array changes; i < size().
  std::string_view operator[](size_t i) const;

  void reserve(size_t strings, size_t bytes);
  void push_back(std::string_view string);
  bool operator==(const StringArray&) const = default;

 private:
  std::string bytes_;
  std::vector<uint32_t> ends_;  // where string i ends in bytes_
};

/// One metadata value. Integers of every width arrive as int64 or uint64; f32 as double.
using MetadataScalar = std::variant<bool, int64_t, uint64_t, double, std::string>;
using MetadataArray =
    std::variant<std::vector<bool>, std::vector<int64_t>, std::vector<uint64_t>, std::vector<double>, StringArray>;
struct MetadataValue {
  std::variant<MetadataScalar, MetadataArray> value;
};
struct MetadataEntry {
  std::string key;
  MetadataValue value;
};

/// Reads are safe from any thread; the source outlives every view it gave.
class WeightSource {
 public:
  virtual ~WeightSource() = default;

  /// What to call it in messages: the path of the (first) file.
  virtual const std::string& name() const = 0;

  /// All of it, in the file's order.
  virtual std::span<const MetadataEntry> metadata() const = 0;
  virtual const MetadataValue* find_metadata(std::string_view key) const = 0;
  virtual const TensorView* find_tensor(std::string_view name) const = 0;
  virtual std::span<const TensorView> tensors() const = 0;

  /// Copies a part of a tensor's bytes, which begins at `from`, out of its file without mapping the pages: who copies everything once
  /// saves mapping it and its memory. False where that is not possible; the bytes themselves say what is there then.
  virtual bool read(const std::byte* /*from*/, std::span<std::byte> /*to*/) const { return false; }

  /// An error once any part of the mapped files has been found missing (truncated while mapped). Pages that went
  /// missing read as zeros; a step that ran meanwhile is worthless. Cheap: call it after every step.
  virtual Result<void> check_intact() const = 0;

  // Typed access: nothing if the key is absent, an error that names key and file if the type or range is wrong.
  Result<std::optional<int64_t>> integer(std::string_view key, int64_t min, int64_t max) const;
  /// Finite; an integer will do.
  Result<std::optional<double>> number(std::string_view key) const;
  Result<std::optional<bool>> boolean(std::string_view key) const;
  Result<std::optional<std::string>> string(std::string_view key) const;
  /// Arrays: null or nothing if the key is absent.
  Result<const StringArray*> strings(std::string_view key) const;
  Result<std::optional<std::vector<int64_t>>> integers(std::string_view key, int64_t min, int64_t max) const;
  Result<std::optional<std::vector<double>>> numbers(std::string_view key) const;
  /// As above; an absent key is an error too.
  Result<int64_t> required_integer(std::string_view key, int64_t min, int64_t max) const;
  Result<std::string> required_string(std::string_view key) const;
};

}  // namespace pagemill
