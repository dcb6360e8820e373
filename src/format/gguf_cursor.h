// GgufCursor: reads little-endian values from the bytes of one file and never past their end.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>

#include <fmt/format.h>

#include "base/result.h"

namespace pagemill {

static_assert(std::endian::native == std::endian::little, "GGUF files are read in place");

class GgufCursor {
 public:
  /// `file` is what messages call it. Both outlive the cursor.
  GgufCursor(std::string_view file, std::span<const std::byte> bytes) : file_(file), bytes_(bytes) {}

  uint64_t position() const { return position_; }
  uint64_t remaining() const { return bytes_.size() - position_; }

  /// The next value. `what` names it in the message if the file ends before.
  template <class T>
  Result<T> read(std::string_view what) {
    if (remaining() < sizeof(T)) return ends_in(what);
    T value;
    std::memcpy(&value, bytes_.data() + position_, sizeof(T));
    position_ += sizeof(T);
    return value;
  }

  /// A u64 length and that many bytes, at most `bytes_max`. The view lies in the file.
  Result<std::string_view> read_string(std::string_view what, uint64_t bytes_max) {
    PM_ASSIGN(const uint64_t size, read<uint64_t>(what));
    if (size > bytes_max) return error(what, fmt::format("has {} bytes, {} at most", size, bytes_max));
    if (size > remaining()) return ends_in(what);
    const std::string_view text(reinterpret_cast<const char*>(bytes_.data() + position_), size);
    position_ += size;
    return text;
  }

  /// "file: what problem", with `what` as the field.
  tl::unexpected<Error> error(std::string_view what, std::string_view problem) const {
    return fail(ErrorCode::invalid_file, fmt::format("{}: {} {}", file_, what, problem), std::string(what));
  }
  tl::unexpected<Error> ends_in(std::string_view what) const {
    return error(what, fmt::format("lies beyond the end of the file ({} bytes): it is truncated or damaged", bytes_.size()));
  }

 private:
  std::string_view file_;
  std::span<const std::byte> bytes_;
  uint64_t position_ = 0;
};

}  // namespace pagemill
