#include <algorithm>
#include <numeric>

#include "base/check.h"
#include "format/gguf_writer.h"

namespace pagemill {
namespace {

constexpr uint64_t kAlignment = 32;

enum GgufType : uint32_t { kU32 = 4, kI32 = 5, kF32 = 6, kBool = 7, kString = 8, kArray = 9, kU64 = 10, kI64 = 11, kF64 = 12 };

template <class T>
void put(std::string& out, T value) {
  out.append(reinterpret_cast<const char*>(&value), sizeof value);
}

void put_string(std::string& out, std::string_view text) {
  put<uint64_t>(out, text.size());
  out += text;
}

// How a kind of value is stored: in 32 bits if `fits` holds for all.
bool fits(int64_t value) { return value >= INT32_MIN && value <= INT32_MAX; }
bool fits(uint64_t value) { return value <= UINT32_MAX; }
bool fits(double value) { return !(static_cast<double>(static_cast<float>(value)) != value) || value != value; }
uint32_t type_id(int64_t, bool narrow) { return narrow ? kI32 : kI64; }
uint32_t type_id(uint64_t, bool narrow) { return narrow ? kU32 : kU64; }
uint32_t type_id(double, bool narrow) { return narrow ? kF32 : kF64; }
void put_number(std::string& out, int64_t value, bool narrow) { narrow ? put(out, static_cast<int32_t>(value)) : put(out, value); }
void put_number(std::string& out, uint64_t value, bool narrow) { narrow ? put(out, static_cast<uint32_t>(value)) : put(out, value); }
void put_number(std::string& out, double value, bool narrow) { narrow ? put(out, static_cast<float>(value)) : put(out, value); }

void put_scalar(std::string& out, bool value) {
  put<uint32_t>(out, kBool);
  put<uint8_t>(out, value);
}
void put_scalar(std::string& out, const std::string& value) {
  put<uint32_t>(out, kString);
  put_string(out, value);
}
template <class Number>
void put_scalar(std::string& out, Number value) {
  const bool narrow = fits(value);
  put<uint32_t>(out, type_id(value, narrow));
  put_number(out, value, narrow);
}

void put_array(std::string& out, const std::vector<bool>& values) {
  put<uint32_t>(out, kBool);
  put<uint64_t>(out, values.size());
  for (const bool value : values) put<uint8_t>(out, value);
}
void put_array(std::string& out, const StringArray& values) {
  put<uint32_t>(out, kString);
  put<uint64_t>(out, values.size());
  for (size_t i = 0; i < values.size(); ++i) put_string(out, values[i]);
}
template <class Number>
void put_array(std::string& out, const std::vector<Number>& values) {
  const bool narrow = std::all_of(values.begin(), values.end(), [](Number value) { return fits(value); });
  put<uint32_t>(out, type_id(Number{}, narrow));
  put<uint64_t>(out, values.size());
  for (const Number value : values) put_number(out, value, narrow);
}

uint64_t padded(uint64_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

}  // namespace

void GgufHeader::set(std::string_view key, MetadataScalar value) { set_value(key, {std::move(value)}); }
void GgufHeader::set(std::string_view key, MetadataArray value) { set_value(key, {std::move(value)}); }

void GgufHeader::set_value(std::string_view key, MetadataValue value) {
  for (MetadataEntry& entry : metadata_) {
    if (entry.key != key) continue;
    entry.value = std::move(value);
    return;
  }
  metadata_.push_back({std::string(key), std::move(value)});
}

void GgufHeader::add_tensor(std::string_view name, DType dtype, std::vector<int64_t> shape) {
  PM_CHECK(!shape.empty());
  const int64_t rows = std::accumulate(shape.begin(), shape.end() - 1, int64_t{1}, std::multiplies<>());
  const auto bytes = static_cast<uint64_t>(row_bytes(dtype, shape.back()) * rows);
  tensors_.push_back({std::string(name), dtype, std::move(shape), data_bytes_, bytes});
  data_bytes_ += padded(bytes);
}

std::string GgufHeader::serialize() const {
  std::string out = "GGUF";
  put<uint32_t>(out, 3);
  put<uint64_t>(out, tensors_.size());
  put<uint64_t>(out, metadata_.size());
  for (const MetadataEntry& entry : metadata_) {
    put_string(out, entry.key);
    if (const auto* scalar = std::get_if<MetadataScalar>(&entry.value.value)) {
      std::visit([&](const auto& value) { put_scalar(out, value); }, *scalar);
    } else {
      put<uint32_t>(out, kArray);
      std::visit([&](const auto& values) { put_array(out, values); }, std::get<MetadataArray>(entry.value.value));
    }
  }
  for (const Tensor& tensor : tensors_) {
    put_string(out, tensor.name);
    put<uint32_t>(out, static_cast<uint32_t>(tensor.shape.size()));
    for (auto extent = tensor.shape.rbegin(); extent != tensor.shape.rend(); ++extent) put<uint64_t>(out, static_cast<uint64_t>(*extent));
    put<uint32_t>(out, traits(tensor.dtype).gguf_id);
    put<uint64_t>(out, tensor.offset);
  }
  out.resize(padded(out.size()), '\0');
  return out;
}

std::string gguf_bytes(const GgufHeader& header, std::span<const std::vector<std::byte>> data) {
  PM_CHECK(data.size() == header.tensors().size());
  std::string out = header.serialize();
  for (size_t i = 0; i < data.size(); ++i) {
    PM_CHECK(data[i].size() == header.tensors()[i].bytes, "tensor {}", header.tensors()[i].name);
    out.append(reinterpret_cast<const char*>(data[i].data()), data[i].size());
    out.resize(padded(out.size()), '\0');
  }
  return out;
}

}  // namespace pagemill
