#include "base/dtype.h"

#include <array>
#include <bit>
#include <cctype>

#include "base/check.h"

namespace pagemill {
namespace {

constexpr std::array<DTypeTraits, kDTypeCount> kTraits{{
    {DType::f32, "f32", 0, 1, 4, false},
    {DType::f16, "f16", 1, 1, 2, false},
    {DType::bf16, "bf16", 30, 1, 2, false},
    {DType::q4_0, "q4_0", 2, 32, 18, true},
    {DType::q4_1, "q4_1", 3, 32, 20, true},
    {DType::q5_0, "q5_0", 6, 32, 22, true},
    {DType::q5_1, "q5_1", 7, 32, 24, true},
    {DType::q8_0, "q8_0", 8, 32, 34, true},
    {DType::q2_k, "q2_k", 10, 256, 84, true},
    {DType::q3_k, "q3_k", 11, 256, 110, true},
    {DType::q4_k, "q4_k", 12, 256, 144, true},
    {DType::q5_k, "q5_k", 13, 256, 176, true},
    {DType::q6_k, "q6_k", 14, 256, 210, true},
    {DType::iq4_nl, "iq4_nl", 20, 32, 18, true},
}};

}  // namespace

const DTypeTraits& traits(DType dtype) {
  const auto index = static_cast<size_t>(dtype);
  PM_CHECK(index < kTraits.size() && kTraits[index].dtype == dtype);
  return kTraits[index];
}

std::optional<DType> dtype_from_gguf(uint32_t gguf_id) {
  for (const DTypeTraits& entry : kTraits)
    if (entry.gguf_id == gguf_id) return entry.dtype;
  return std::nullopt;
}

std::optional<DType> dtype_from_name(std::string_view name) {
  const auto same = [&](std::string_view known) {
    if (known.size() != name.size()) return false;
    for (size_t i = 0; i < name.size(); ++i)
      if (std::tolower(static_cast<unsigned char>(name[i])) != known[i]) return false;
    return true;
  };
  for (const DTypeTraits& entry : kTraits)
    if (same(entry.name)) return entry.dtype;
  return std::nullopt;
}

int64_t row_bytes(DType dtype, int64_t elems) {
  const DTypeTraits& t = traits(dtype);
  PM_CHECK(elems >= 0 && elems <= int64_t{1} << 40 && elems % t.block_elems == 0, "{} elements of {}", elems, t.name);
  return elems / t.block_elems * t.block_bytes;
}

uint16_t f32_to_f16(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const auto sign = static_cast<uint16_t>((bits >> 16) & 0x8000);
  const uint32_t magnitude = bits & 0x7FFFFFFF;
  if (magnitude > 0x7F800000) return sign | 0x7E00;   // NaN
  if (magnitude >= 0x477FF000) return sign | 0x7C00;  // rounds to infinity
  if (magnitude < 0x38800000) {                       // subnormal: let the FPU round at 2^-24
    const float scaled = std::bit_cast<float>(magnitude) + 0.5f;  // ulp of [0.5, 1) is 2^-24
    return static_cast<uint16_t>(sign | (std::bit_cast<uint32_t>(scaled) - 0x3F000000));
  }
  const uint32_t rounded = magnitude + 0xFFF + ((magnitude >> 13) & 1);
  return static_cast<uint16_t>(sign | ((rounded - 0x38000000) >> 13));
}

uint16_t f32_to_bf16(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  if ((bits & 0x7FFFFFFF) > 0x7F800000) return static_cast<uint16_t>((bits >> 16) | 0x40);
  return static_cast<uint16_t>((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16);
}

}  // namespace pagemill
