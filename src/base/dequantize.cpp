// One function per block type, each the format's formula element by element.
#include "base/dequantize.h"

#include "base/check.h"
#include "base/quant_blocks.h"

namespace pagemill {
namespace {

using namespace blocks;

void q4_0(const std::byte* block, float* out) {
  const float d = f16(block);
  for (int e = 0; e < kSmall / 2; ++e) {
    const int byte = u8(block + 2 + e);
    out[e] = d * static_cast<float>((byte & 15) - 8);
    out[e + 16] = d * static_cast<float>((byte >> 4) - 8);
  }
}

void q4_1(const std::byte* block, float* out) {
  const float d = f16(block), m = f16(block + 2);
  for (int e = 0; e < kSmall / 2; ++e) {
    const int byte = u8(block + 4 + e);
    out[e] = d * static_cast<float>(byte & 15) + m;
    out[e + 16] = d * static_cast<float>(byte >> 4) + m;
  }
}

void q5_0(const std::byte* block, float* out) {
  const float d = f16(block);
  const uint32_t high = u32(block + 2);
  for (int e = 0; e < kSmall; ++e) {
    const int byte = u8(block + 6 + e % 16);
    const int low = e < 16 ? byte & 15 : byte >> 4;
    out[e] = d * static_cast<float>((low | static_cast<int>((high >> e) & 1) << 4) - 16);
  }
}

void q5_1(const std::byte* block, float* out) {
  const float d = f16(block), m = f16(block + 2);
  const uint32_t high = u32(block + 4);
  for (int e = 0; e < kSmall; ++e) {
    const int byte = u8(block + 8 + e % 16);
    const int low = e < 16 ? byte & 15 : byte >> 4;
    out[e] = d * static_cast<float>(low | static_cast<int>((high >> e) & 1) << 4) + m;
  }
}

void q8_0(const std::byte* block, float* out) {
  const float d = f16(block);
  for (int e = 0; e < kSmall; ++e) out[e] = d * static_cast<float>(i8(block + 2 + e));
}

void iq4_nl(const std::byte* block, float* out) {
  const float d = f16(block);
  for (int e = 0; e < kSmall / 2; ++e) {
    const int byte = u8(block + 2 + e);
    out[e] = d * static_cast<float>(kIq4NlValues[static_cast<size_t>(byte & 15)]);
    out[e + 16] = d * static_cast<float>(kIq4NlValues[static_cast<size_t>(byte >> 4)]);
  }
}

// The 2-bit numbers of Q2_K and Q3_K: four planes of 32 in each run of 32 bytes.
int two_bits(const std::byte* qs, int e) { return (u8(qs + 32 * (e / 128) + e % 32) >> (2 * (e % 128 / 32))) & 3; }

void q2_k(const std::byte* block, float* out) {
  const float d = f16(block + Q2K::d), dmin = f16(block + Q2K::dmin);
  for (int k = 0; k < kSuper / 16; ++k) {
    const int packed = u8(block + Q2K::scales + k);
    const float scale = d * static_cast<float>(packed & 15);
    const float min = dmin * static_cast<float>(packed >> 4);
    for (int e = 16 * k; e < 16 * (k + 1); ++e) out[e] = scale * static_cast<float>(two_bits(block + Q2K::qs, e)) - min;
  }
}

void q3_k(const std::byte* block, float* out) {
  const float d = f16(block + Q3K::d);
  const std::byte* packed = block + Q3K::scales;
  for (int k = 0; k < kSuper / 16; ++k) {
    const int low = k < 8 ? u8(packed + k) & 15 : u8(packed + k - 8) >> 4;
    const int high = (u8(packed + 8 + k % 4) >> (2 * (k / 4))) & 3;
    const float scale = d * static_cast<float>((low | high << 4) - 32);
    for (int e = 16 * k; e < 16 * (k + 1); ++e) {
      const bool high_bit = (u8(block + Q3K::hmask + e % 32) >> (e / 32)) & 1;
      out[e] = scale * static_cast<float>(two_bits(block + Q3K::qs, e) - (high_bit ? 0 : 4));
    }
  }
}

void q4_k(const std::byte* block, float* out) {
  const float d = f16(block + Q4K::d), dmin = f16(block + Q4K::dmin);
  for (int j = 0; j < kSuper / 32; ++j) {
    const ScaleMin packed = packed_scale_min(block + Q4K::scales, j);
    const float scale = d * static_cast<float>(packed.scale), min = dmin * static_cast<float>(packed.min);
    const std::byte* qs = block + Q4K::qs + 32 * (j / 2);
    for (int i = 0; i < 32; ++i) {
      const int q = j % 2 == 0 ? u8(qs + i) & 15 : u8(qs + i) >> 4;
      out[32 * j + i] = scale * static_cast<float>(q) - min;
    }
  }
}

void q5_k(const std::byte* block, float* out) {
  const float d = f16(block + Q5K::d), dmin = f16(block + Q5K::dmin);
  for (int j = 0; j < kSuper / 32; ++j) {
    const ScaleMin packed = packed_scale_min(block + Q5K::scales, j);
    const float scale = d * static_cast<float>(packed.scale), min = dmin * static_cast<float>(packed.min);
    const std::byte* qs = block + Q5K::qs + 32 * (j / 2);
    for (int i = 0; i < 32; ++i) {
      const int low = j % 2 == 0 ? u8(qs + i) & 15 : u8(qs + i) >> 4;
      const int high = (u8(block + Q5K::qh + i) >> j) & 1;
      out[32 * j + i] = scale * static_cast<float>(low | high << 4) - min;
    }
  }
}

void q6_k(const std::byte* block, float* out) {
  const float d = f16(block + Q6K::d);
  for (int k = 0; k < kSuper / 16; ++k) {
    // Sixteen elements that share a scale share their shifts too.
    const int e = 16 * k, c = e / 128, r = e % 128;
    const std::byte *low_bits = block + Q6K::ql + 64 * c + r % 64, *high_bits = block + Q6K::qh + 32 * c + r % 32;
    const int low_shift = 4 * (r / 64), high_shift = 2 * (r / 32);
    const float scale = d * static_cast<float>(i8(block + Q6K::scales + k));
    for (int i = 0; i < 16; ++i) {
      const int low = (u8(low_bits + i) >> low_shift) & 15, high = (u8(high_bits + i) >> high_shift) & 3;
      out[e + i] = scale * static_cast<float>((low | high << 4) - 32);
    }
  }
}

template <void (*Block)(const std::byte*, float*), DType Type>
void every_block(std::span<const std::byte> src, std::span<float> dst) {
  const DTypeTraits& t = traits(Type);
  const size_t count = dst.size() / static_cast<size_t>(t.block_elems);
  for (size_t i = 0; i < count; ++i)
    Block(src.data() + i * static_cast<size_t>(t.block_bytes), dst.data() + i * static_cast<size_t>(t.block_elems));
}

template <float (*Convert)(uint16_t)>
void sixteen_bits(std::span<const std::byte> src, std::span<float> dst) {
  for (size_t i = 0; i < dst.size(); ++i) {
    uint16_t bits;
    std::memcpy(&bits, src.data() + 2 * i, sizeof bits);
    dst[i] = Convert(bits);
  }
}

}  // namespace

void dequantize_row(DType dtype, std::span<const std::byte> src, std::span<float> dst) {
  PM_CHECK(static_cast<int64_t>(src.size()) == row_bytes(dtype, static_cast<int64_t>(dst.size())), "{} bytes for {} elements of {}",
           src.size(), dst.size(), to_string(dtype));
  switch (dtype) {
    case DType::f32:
      if (!dst.empty()) std::memcpy(dst.data(), src.data(), src.size());
      return;
    case DType::f16: return sixteen_bits<f16_to_f32>(src, dst);
    case DType::bf16: return sixteen_bits<bf16_to_f32>(src, dst);
    case DType::q4_0: return every_block<q4_0, DType::q4_0>(src, dst);
    case DType::q4_1: return every_block<q4_1, DType::q4_1>(src, dst);
    case DType::q5_0: return every_block<q5_0, DType::q5_0>(src, dst);
    case DType::q5_1: return every_block<q5_1, DType::q5_1>(src, dst);
    case DType::q8_0: return every_block<q8_0, DType::q8_0>(src, dst);
    case DType::q2_k: return every_block<q2_k, DType::q2_k>(src, dst);
    case DType::q3_k: return every_block<q3_k, DType::q3_k>(src, dst);
    case DType::q4_k: return every_block<q4_k, DType::q4_k>(src, dst);
    case DType::q5_k: return every_block<q5_k, DType::q5_k>(src, dst);
    case DType::q6_k: return every_block<q6_k, DType::q6_k>(src, dst);
    case DType::iq4_nl: return every_block<iq4_nl, DType::iq4_nl>(src, dst);
  }
}

}  // namespace pagemill
