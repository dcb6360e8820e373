#include "format/gguf_metadata.h"

#include <algorithm>

#include "base/limits.h"

namespace pagemill {
namespace {

enum class GgufType : uint32_t { u8, i8, u16, i16, u32, i32, f32, boolean, string, array, u64, i64, f64 };

// Bytes of a value in the file; of a string its length field, the least it can take.
uint64_t least_bytes(GgufType type) {
  switch (type) {
    case GgufType::u8:
    case GgufType::i8:
    case GgufType::boolean: return 1;
    case GgufType::u16:
    case GgufType::i16: return 2;
    case GgufType::u32:
    case GgufType::i32:
    case GgufType::f32: return 4;
    case GgufType::array:
    case GgufType::string:
    case GgufType::u64:
    case GgufType::i64:
    case GgufType::f64: return 8;
  }
  return 8;
}

/// Reads values of one file, counting elements of arrays against the common bound.
class ValueReader {
 public:
  explicit ValueReader(GgufCursor& cursor) : cursor_(cursor) {}

  Result<MetadataValue> value(std::string_view what) {
    PM_ASSIGN(const GgufType kind, type(what));
    if (kind == GgufType::array) {
      PM_ASSIGN(MetadataArray elements, array(what));
      return MetadataValue{std::move(elements)};
    }
    PM_ASSIGN(MetadataScalar one, scalar(kind, what));
    return MetadataValue{std::move(one)};
  }

 private:
  Result<GgufType> type(std::string_view what) {
    PM_ASSIGN(const uint32_t id, cursor_.read<uint32_t>(what));
    if (id > static_cast<uint32_t>(GgufType::f64)) return cursor_.error(what, fmt::format("has the unknown value type {}", id));
    return static_cast<GgufType>(id);
  }

  Result<bool> boolean(std::string_view what) {
    PM_ASSIGN(const uint8_t byte, cursor_.read<uint8_t>(what));
    if (byte > 1) return cursor_.error(what, fmt::format("is a boolean with the value {}", byte));
    return byte == 1;
  }

  template <class Stored, class Kept>
  Result<MetadataScalar> number(std::string_view what) {
    PM_ASSIGN(const Stored stored, cursor_.read<Stored>(what));
    return MetadataScalar(static_cast<Kept>(stored));
  }

  Result<MetadataScalar> scalar(GgufType kind, std::string_view what) {
    switch (kind) {
      case GgufType::u8: return number<uint8_t, uint64_t>(what);
      case GgufType::i8: return number<int8_t, int64_t>(what);
      case GgufType::u16: return number<uint16_t, uint64_t>(what);
      case GgufType::i16: return number<int16_t, int64_t>(what);
      case GgufType::u32: return number<uint32_t, uint64_t>(what);
      case GgufType::i32: return number<int32_t, int64_t>(what);
      case GgufType::u64: return number<uint64_t, uint64_t>(what);
      case GgufType::i64: return number<int64_t, int64_t>(what);
      case GgufType::f32: return number<float, double>(what);
      case GgufType::f64: return number<double, double>(what);
      case GgufType::boolean: return boolean(what).map([](bool value) { return MetadataScalar(value); });
      case GgufType::string:
        return cursor_.read_string(what, limits::kGgufStringBytes).map([](std::string_view text) {
          return MetadataScalar(std::string(text));
        });
      case GgufType::array: break;
    }
    return cursor_.error(what, "is an array of arrays");
  }

  template <class Stored, class Kept>
  Result<MetadataArray> numbers(std::string_view what, uint64_t count) {
    std::vector<Kept> values(count);
    for (Kept& value : values) {
      PM_ASSIGN(const Stored stored, cursor_.read<Stored>(what));
      value = static_cast<Kept>(stored);
    }
    return MetadataArray(std::move(values));
  }

  Result<MetadataArray> booleans(std::string_view what, uint64_t count) {
    std::vector<bool> values(count);
    for (uint64_t i = 0; i < count; ++i) {
      PM_ASSIGN(values[i], boolean(what));
    }
    return MetadataArray(std::move(values));
  }

  // Two passes, so that the buffer has its final size at once.
  Result<MetadataArray> strings(std::string_view what, uint64_t count) {
    GgufCursor ahead = cursor_;
    uint64_t bytes = 0;
    for (uint64_t i = 0; i < count; ++i) {
      PM_ASSIGN(const std::string_view text, ahead.read_string(what, limits::kGgufStringBytes));
      bytes += text.size();
    }
    if (bytes > limits::kGgufMetadataBytes)
      return cursor_.error(what, fmt::format("has {} bytes, {} at most", bytes, limits::kGgufMetadataBytes));
    StringArray values;
    values.reserve(count, bytes);
    for (uint64_t i = 0; i < count; ++i) {
      PM_ASSIGN(const std::string_view text, cursor_.read_string(what, limits::kGgufStringBytes));
      if (text.size() > bytes) return cursor_.error(what, "changed while it was being read");
      bytes -= text.size();
      values.push_back(text);
    }
    return MetadataArray(std::move(values));
  }

  Result<MetadataArray> array(std::string_view what) {
    PM_ASSIGN(const GgufType kind, type(what));
    PM_ASSIGN(const uint64_t count, cursor_.read<uint64_t>(what));
    if (count > cursor_.remaining() / least_bytes(kind)) return cursor_.ends_in(what);
    if (count > limits::kGgufArrayElements - elements_)
      return cursor_.error(what, fmt::format("brings the elements of all arrays above {}", limits::kGgufArrayElements));
    elements_ += count;
    switch (kind) {
      case GgufType::u8: return numbers<uint8_t, uint64_t>(what, count);
      case GgufType::i8: return numbers<int8_t, int64_t>(what, count);
      case GgufType::u16: return numbers<uint16_t, uint64_t>(what, count);
      case GgufType::i16: return numbers<int16_t, int64_t>(what, count);
      case GgufType::u32: return numbers<uint32_t, uint64_t>(what, count);
      case GgufType::i32: return numbers<int32_t, int64_t>(what, count);
      case GgufType::u64: return numbers<uint64_t, uint64_t>(what, count);
      case GgufType::i64: return numbers<int64_t, int64_t>(what, count);
      case GgufType::f32: return numbers<float, double>(what, count);
      case GgufType::f64: return numbers<double, double>(what, count);
      case GgufType::boolean: return booleans(what, count);
      case GgufType::string: return strings(what, count);
      case GgufType::array: break;
    }
    return cursor_.error(what, "is an array of arrays");
  }

  GgufCursor& cursor_;
  uint64_t elements_ = 0;
};

}  // namespace

std::string printable(std::string_view name) {
  constexpr size_t kShown = 80;
  std::string out;
  for (const char c : name.substr(0, kShown)) {
    if (c > 0x20 && c < 0x7F) {
      out += c;
    } else {
      out += fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
    }
  }
  if (name.size() > kShown) out += "…";
  return out;
}

bool well_formed_name(std::string_view name) {
  return !name.empty() && std::all_of(name.begin(), name.end(), [](char c) { return c > 0x20 && c < 0x7F; });
}

Result<GgufMetadata> GgufMetadata::read(GgufCursor& cursor, uint64_t count) {
  GgufMetadata metadata;
  metadata.entries_.reserve(count);
  metadata.index_.reserve(count);
  ValueReader reader(cursor);
  const uint64_t start = cursor.position();
  for (uint64_t i = 0; i < count; ++i) {
    const std::string place = fmt::format("metadata key {}", i);
    PM_ASSIGN(const std::string_view key, cursor.read_string(place, limits::kGgufKeyBytes));
    if (!well_formed_name(key)) return cursor.error(place, fmt::format("is malformed: \"{}\"", printable(key)));
    const std::string what = fmt::format("metadata {}", printable(key));
    if (metadata.find(key)) return cursor.error(what, "appears twice");
    PM_ASSIGN(MetadataValue value, reader.value(what));
    metadata.entries_.push_back({std::string(key), std::move(value)});
    metadata.index_.emplace(metadata.entries_.back().key, i);
    if (cursor.position() - start > limits::kGgufMetadataBytes)
      return cursor.error(what, fmt::format("brings the metadata above {} bytes", limits::kGgufMetadataBytes));
  }
  return metadata;
}

const MetadataValue* GgufMetadata::find(std::string_view key) const {
  const auto found = index_.find(key);
  return found == index_.end() ? nullptr : &entries_[found->second].value;
}

}  // namespace pagemill
