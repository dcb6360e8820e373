// Access to the fields of quantised blocks: for dequantize.cpp, for the quantisers of format/ and for kernels.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "base/dtype.h"

namespace pagemill::blocks {

inline constexpr int kSmall = 32;   // elements in a block of the plain types
inline constexpr int kSuper = 256;  // and of the K types

/// The values that the nibbles of IQ4_NL stand for.
inline constexpr std::array<int8_t, 16> kIq4NlValues = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};

inline int u8(const std::byte* p) { return std::to_integer<int>(*p); }
inline int i8(const std::byte* p) { return static_cast<int8_t>(*p); }
inline float f16(const std::byte* p) {
  uint16_t bits;
  std::memcpy(&bits, p, sizeof bits);
  return f16_to_f32(bits);
}
inline uint32_t u32(const std::byte* p) {
  uint32_t value;
  std::memcpy(&value, p, sizeof value);
  return value;
}
/// `value` as a block can hold it: rounded to f16 and kept finite.
inline float stored_f16(float value) {
  constexpr float kLargest = 65'504;
  return f16_to_f32(f32_to_f16(value > kLargest ? kLargest : value < -kLargest ? -kLargest : value));
}
inline void put_f16(std::byte* p, float value) {
  const uint16_t bits = f32_to_f16(value);
  std::memcpy(p, &bits, sizeof bits);
}

/// Where the fields of a block begin, in bytes.
struct Q2K {
  static constexpr int scales = 0, qs = 16, d = 80, dmin = 82;
};
struct Q3K {
  static constexpr int hmask = 0, qs = 32, scales = 96, d = 108;
};
struct Q4K {
  static constexpr int d = 0, dmin = 2, scales = 4, qs = 16;
};
struct Q5K {
  static constexpr int d = 0, dmin = 2, scales = 4, qh = 16, qs = 48;
};
struct Q6K {
  static constexpr int ql = 0, qh = 128, scales = 192, d = 208;
};

/// The eight 6-bit scales and mins that Q4_K and Q5_K pack into 12 bytes.
struct ScaleMin {
  int scale;
  int min;
};
inline ScaleMin packed_scale_min(const std::byte* packed, int j) {
  if (j < 4) return {u8(packed + j) & 63, u8(packed + j + 4) & 63};
  return {(u8(packed + j + 4) & 15) | ((u8(packed + j - 4) >> 6) << 4), (u8(packed + j + 4) >> 4) | ((u8(packed + j) >> 6) << 4)};
}

}  // namespace pagemill::blocks
