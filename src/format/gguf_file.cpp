#include "format/gguf_file.h"

#include <algorithm>
#include <array>
#include <bit>
#include <functional>
#include <numeric>
#include <optional>
#include <unordered_set>

#include "base/limits.h"

namespace pagemill {
namespace {

constexpr std::string_view kMagic = "GGUF";
constexpr uint32_t kDefaultAlignment = 32;
constexpr uint64_t kLeastKeyBytes = 8 + 1 + 4 + 1;              // key, type, a one-byte value
constexpr uint64_t kLeastTensorBytes = 8 + 1 + 4 + 8 + 4 + 8;   // name, one dimension, type, offset
constexpr uint32_t kDimensionsMax = 4;

struct Header {
  uint32_t version = 0;
  uint64_t tensors = 0;
  uint64_t keys = 0;
};

// A tensor info as it stands in the file.
struct TensorInfo {
  std::string name;
  std::vector<int64_t> shape;  // row-major, contiguous dimension last
  DType dtype = DType::f32;
  uint64_t offset = 0;
  uint64_t bytes = 0;
};

Result<uint64_t> read_count(GgufCursor& cursor, std::string_view what, uint64_t most, uint64_t least_bytes) {
  PM_ASSIGN(const uint64_t count, cursor.read<uint64_t>(what));
  if (count > most) return cursor.error(what, fmt::format("is {}, {} at most", count, most));
  if (count > cursor.remaining() / least_bytes)
    return cursor.error(what, fmt::format("is {}, more than the file has room for", count));
  return count;
}

Result<Header> read_header(GgufCursor& cursor) {
  PM_ASSIGN(const auto magic, (cursor.read<std::array<char, 4>>("magic")));
  if (std::string_view(magic.data(), magic.size()) != kMagic)
    return cursor.error("magic", "is not \"GGUF\": this is not a GGUF file");
  Header header;
  PM_ASSIGN(header.version, cursor.read<uint32_t>("version"));
  if (header.version == 0x02000000 || header.version == 0x03000000)
    return cursor.error("version", "is in big-endian byte order, which is not supported");
  if (header.version != 2 && header.version != 3)
    return cursor.error("version", fmt::format("is {}, supported are 2 and 3", header.version));
  PM_ASSIGN(header.tensors, read_count(cursor, "tensor_count", limits::kGgufTensors, kLeastTensorBytes));
  PM_ASSIGN(header.keys, read_count(cursor, "metadata_kv_count", limits::kGgufMetadataKeys, kLeastKeyBytes));
  return header;
}

Result<uint64_t> read_alignment(const GgufCursor& cursor, const GgufMetadata& metadata) {
  constexpr std::string_view kKey = "general.alignment";
  const MetadataValue* value = metadata.find(kKey);
  if (!value) return kDefaultAlignment;
  const auto* scalar = std::get_if<MetadataScalar>(&value->value);
  const auto* alignment = scalar ? std::get_if<uint64_t>(scalar) : nullptr;
  if (!alignment) return cursor.error(kKey, "is not an unsigned integer");
  if (!std::has_single_bit(*alignment) || *alignment < 8 || *alignment > UINT32_MAX)
    return cursor.error(kKey, fmt::format("is {}, not a power of two from 8 up", *alignment));
  return *alignment;
}

std::string_view unsupported_type_name(uint32_t id) {
  switch (id) {
    case 9: return "Q8_1";
    case 15: return "Q8_K";
    case 16: return "IQ2_XXS";
    case 17: return "IQ2_XS";
    case 18: return "IQ3_XXS";
    case 19: return "IQ1_S";
    case 21: return "IQ3_S";
    case 22: return "IQ2_S";
    case 23: return "IQ4_XS";
    case 24: return "I8";
    case 25: return "I16";
    case 26: return "I32";
    case 27: return "I64";
    case 28: return "F64";
    case 29: return "IQ1_M";
    case 34: return "TQ1_0";
    case 35: return "TQ2_0";
    case 39: return "MXFP4";
    default: return "unknown";
  }
}

// Dimensions lie in the file with the contiguous one first.
Result<std::vector<int64_t>> read_shape(GgufCursor& cursor, std::string_view what) {
  PM_ASSIGN(const uint32_t dimensions, cursor.read<uint32_t>(what));
  if (dimensions == 0 || dimensions > kDimensionsMax)
    return cursor.error(what, fmt::format("has {} dimensions, 1 to {} are possible", dimensions, kDimensionsMax));
  std::vector<int64_t> shape(dimensions);
  uint64_t elements = 1;
  for (uint32_t i = 0; i < dimensions; ++i) {
    PM_ASSIGN(const uint64_t extent, cursor.read<uint64_t>(what));
    if (extent == 0) return cursor.error(what, fmt::format("has a dimension {} of 0", i));
    if (extent > limits::kTensorElements / elements)
      return cursor.error(what, fmt::format("has more than {} elements", limits::kTensorElements));
    elements *= extent;
    shape[dimensions - 1 - i] = static_cast<int64_t>(extent);
  }
  return shape;
}

Result<TensorInfo> read_tensor_info(GgufCursor& cursor, uint64_t index) {
  const std::string place = fmt::format("tensor {}", index);
  PM_ASSIGN(const std::string_view name, cursor.read_string(place + "'s name", limits::kGgufTensorNameBytes));
  if (!well_formed_name(name)) return cursor.error(place, fmt::format("has a malformed name: \"{}\"", printable(name)));
  const std::string what = fmt::format("tensor {}", name);
  TensorInfo info;
  info.name = name;
  PM_ASSIGN(info.shape, read_shape(cursor, what));
  PM_ASSIGN(const uint32_t type, cursor.read<uint32_t>(what));
  const std::optional<DType> dtype = dtype_from_gguf(type);
  if (!dtype) {
    Error error = cursor.error(what, fmt::format("has type {} ({}), which is not supported", type, unsupported_type_name(type))).value();
    error.code = ErrorCode::unsupported;
    return tl::unexpected(std::move(error));
  }
  info.dtype = *dtype;
  const int64_t row = info.shape.back();
  if (row % traits(*dtype).block_elems != 0)
    return cursor.error(what, fmt::format("has rows of {} elements, not a multiple of the {} in a block of {}", row,
                                          traits(*dtype).block_elems, to_string(*dtype)));
  const int64_t rows = std::accumulate(info.shape.begin(), info.shape.end() - 1, int64_t{1}, std::multiplies<>());
  info.bytes = static_cast<uint64_t>(row_bytes(*dtype, row)) * static_cast<uint64_t>(rows);
  PM_ASSIGN(info.offset, cursor.read<uint64_t>(what));
  return info;
}

Result<std::vector<TensorInfo>> read_tensor_infos(GgufCursor& cursor, uint64_t count) {
  std::vector<TensorInfo> infos;
  infos.reserve(count);
  std::unordered_set<std::string_view> names;
  names.reserve(count);
  for (uint64_t i = 0; i < count; ++i) {
    PM_ASSIGN(TensorInfo info, read_tensor_info(cursor, i));
    infos.push_back(std::move(info));
    if (!names.insert(infos.back().name).second)
      return cursor.error(fmt::format("tensor {}", infos.back().name), "appears twice");
  }
  return infos;
}

Result<void> check_overlap(const GgufCursor& cursor, const std::vector<TensorInfo>& infos) {
  std::vector<uint32_t> order(infos.size());
  std::iota(order.begin(), order.end(), 0u);
  std::sort(order.begin(), order.end(), [&](uint32_t a, uint32_t b) { return infos[a].offset < infos[b].offset; });
  for (size_t i = 1; i < order.size(); ++i) {
    const TensorInfo& before = infos[order[i - 1]];
    const TensorInfo& here = infos[order[i]];
    if (before.offset + before.bytes > here.offset)
      return cursor.error(fmt::format("tensor {}", here.name), fmt::format("overlaps tensor {}", before.name));
  }
  return {};
}

// Offsets count from the first multiple of the alignment behind the tensor infos.
Result<std::vector<TensorView>> place_tensors(const GgufCursor& cursor, std::span<const std::byte> bytes, uint64_t alignment,
                                              std::vector<TensorInfo> infos) {
  const uint64_t padding = (alignment - cursor.position() % alignment) % alignment;
  const uint64_t data_bytes = cursor.remaining() > padding ? cursor.remaining() - padding : 0;
  for (const TensorInfo& info : infos) {
    const std::string what = fmt::format("tensor {}", info.name);
    if (info.offset % alignment != 0)
      return cursor.error(what, fmt::format("has offset {}, not a multiple of the alignment {}", info.offset, alignment));
    if (info.offset > data_bytes || info.bytes > data_bytes - info.offset)
      return cursor.error(what, fmt::format("ends at byte {} + {} of the data, which has {}: the file is truncated or damaged",
                                            info.offset, info.bytes, data_bytes));
  }
  PM_TRY(check_overlap(cursor, infos));
  std::vector<TensorView> views;
  views.reserve(infos.size());
  const uint64_t data_start = cursor.position() + padding;
  for (TensorInfo& info : infos) {
    const auto content = bytes.subspan(data_start + info.offset, info.bytes);
    views.push_back({std::move(info.name), info.dtype, std::move(info.shape), content});
  }
  return views;
}

}  // namespace

Result<GgufFile> read_gguf_file(std::string_view file, std::span<const std::byte> bytes) {
  GgufCursor cursor(file, bytes);
  PM_ASSIGN(const Header header, read_header(cursor));
  GgufFile result;
  result.version = header.version;
  PM_ASSIGN(result.metadata, GgufMetadata::read(cursor, header.keys));
  PM_ASSIGN(const uint64_t alignment, read_alignment(cursor, result.metadata));
  PM_ASSIGN(std::vector<TensorInfo> infos, read_tensor_infos(cursor, header.tensors));
  PM_ASSIGN(result.tensors, place_tensors(cursor, bytes, alignment, std::move(infos)));
  return result;
}

}  // namespace pagemill
