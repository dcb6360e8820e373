// Element types of tensors, and how their blocks lie in memory. GGUF's types keep GGUF's byte layout (ggml's).
#pragma once

#include <bit>
#include <cstdint>
#include <optional>
#include <string_view>

namespace pagemill {

enum class DType : uint8_t { f32, f16, bf16, q4_0, q4_1, q5_0, q5_1, q8_0, q2_k, q3_k, q4_k, q5_k, q6_k, iq4_nl };
inline constexpr int kDTypeCount = 14;

struct DTypeTraits {
  DType dtype;
  std::string_view name;  // "f32", "q4_k", …
  uint32_t gguf_id;       // ggml_type in a GGUF file
  int32_t block_elems;    // elements per block: 1, 32 or 256
  int32_t block_bytes;
  bool quantized;
};

const DTypeTraits& traits(DType dtype);
inline std::string_view to_string(DType dtype) { return traits(dtype).name; }

/// The type with this id in GGUF, or nothing if it is unknown or not supported.
std::optional<DType> dtype_from_gguf(uint32_t gguf_id);
/// By name, upper or lower case ("Q4_K").
std::optional<DType> dtype_from_name(std::string_view name);

/// Bytes of a row of `elems` elements; elems must be a multiple of the block. At most 2^40 elements.
int64_t row_bytes(DType dtype, int64_t elems);

/// IEEE binary16 and bfloat16 by their bits; rounding to nearest even, NaN stays NaN.
uint16_t f32_to_f16(float value);
uint16_t f32_to_bf16(float value);

inline float bf16_to_f32(uint16_t bits) { return std::bit_cast<float>(uint32_t{bits} << 16); }

inline float f16_to_f32(uint16_t bits) {
  // Exponent and mantissa moved into place; the product corrects the exponent's bias, exactly, for subnormals too.
  const uint32_t magnitude = (bits & 0x7FFFu) << 13;
  const uint32_t finite = std::bit_cast<uint32_t>(std::bit_cast<float>(magnitude) * 0x1p112f);
  const uint32_t value = magnitude >= 0x0F800000u ? magnitude | 0x7F800000u : finite;
  return std::bit_cast<float>(value | (bits & 0x8000u) << 16);
}

}  // namespace pagemill
