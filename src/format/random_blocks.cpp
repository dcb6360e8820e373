#include "format/random_blocks.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/check.h"
#include "base/quant_blocks.h"
#include "format/quantize.h"

namespace pagemill {
namespace {

using namespace blocks;

constexpr size_t kTable = 65'536;  // 16 random bits choose a value

// Root mean square of the whole numbers from low to high.
double rms(int low, int high) {
  double sum = 0;
  for (int i = low; i <= high; ++i) sum += double{static_cast<double>(i)} * i;
  return std::sqrt(sum / (high - low + 1));
}

double deviation_of_steps(int high) { return std::sqrt((std::pow(high + 1, 2) - 1) / 12); }

double iq4_nl_rms() {
  double sum = 0;
  for (const int8_t value : kIq4NlValues) sum += double{static_cast<double>(value)} * value;
  return std::sqrt(sum / 16);
}

// The deviation that a block of random bits has when its d is 1. Types with an offset get one that makes the mean 0.
double unit_deviation(DType dtype) {
  switch (dtype) {
    case DType::q4_0: return rms(-8, 7);
    case DType::q4_1: return deviation_of_steps(15);
    case DType::q5_0: return rms(-16, 15);
    case DType::q5_1: return deviation_of_steps(31);
    case DType::q8_0: return rms(-128, 127);
    case DType::iq4_nl: return iq4_nl_rms();
    case DType::q2_k: return deviation_of_steps(3) * rms(0, 15);
    case DType::q3_k: return rms(-4, 3) * rms(-32, 31);
    case DType::q4_k: return deviation_of_steps(15) * rms(0, 63);
    case DType::q5_k: return deviation_of_steps(31) * rms(0, 63);
    case DType::q6_k: return rms(-32, 31) * rms(-128, 127);
    case DType::f32:
    case DType::f16:
    case DType::bf16: break;
  }
  return 1;
}

const std::vector<float>& standard_normals() {
  static const std::vector<float> table = [] {
    SplitMix64 random(1);
    std::vector<float> values(kTable);
    for (float& value : values) value = static_cast<float>(random.normal());
    return values;
  }();
  return table;
}

// Makes each run's min equal to its scale, so that with dmin = d · (middle q) every run has mean 0.
void equal_scale_min(std::byte* packed) {
  for (int j = 0; j < 4; ++j) {
    packed[j + 4] = packed[j];
    packed[j + 8] = (packed[j + 8] & std::byte{15}) | (packed[j + 8] << 4);
  }
}

}  // namespace

RandomBlocks::RandomBlocks(DType dtype, RandomValues values, uint64_t seed) : dtype_(dtype), values_(values), random_(seed) {
  if (traits(dtype).quantized) return;
  std::vector<float> table = standard_normals();
  for (float& value : table) value = static_cast<float>(values.mean + values.deviation * double{value});
  if (dtype == DType::f16)
    for (float& value : table) value = bf16_to_f32(f32_to_bf16(value));
  table_.resize(static_cast<size_t>(row_bytes(dtype, kTable)));
  quantize_row(dtype, table, table_);
}

void RandomBlocks::fill(std::span<std::byte> blocks) {
  const auto block_bytes = static_cast<size_t>(traits(dtype_).block_bytes);
  PM_CHECK(blocks.size() % block_bytes == 0);
  if (!traits(dtype_).quantized) return fill_plain(blocks);
  for (size_t i = 0; i < blocks.size(); i += sizeof(uint64_t)) {
    const uint64_t bits = random_();
    std::memcpy(blocks.data() + i, &bits, std::min(sizeof bits, blocks.size() - i));
  }
  for (size_t i = 0; i < blocks.size(); i += block_bytes) fill_block(blocks.data() + i);
}

void RandomBlocks::fill_plain(std::span<std::byte> values) {
  const auto bytes = static_cast<size_t>(traits(dtype_).block_bytes);
  uint64_t bits = 0;
  for (size_t i = 0; i < values.size() / bytes; ++i) {
    bits = i % 4 == 0 ? random_() : bits >> 16;
    std::memcpy(values.data() + i * bytes, table_.data() + bits % kTable * bytes, bytes);
  }
}

// A block's d: between half and one and a half times what is needed, of either sign.
float RandomBlocks::scale() {
  const double spread = 0.5 + random_.uniform();
  const double sign = random_() & 1 ? 1 : -1;
  constexpr double kRmsOfSpread = 1.0408;  // of a uniform variable on [0.5, 1.5]
  return static_cast<float>(sign * spread / kRmsOfSpread * values_.deviation / unit_deviation(dtype_));
}

// The bits are random already; what is left are the scales.
void RandomBlocks::fill_block(std::byte* block) {
  const float d = scale();
  switch (dtype_) {
    case DType::q4_0:
    case DType::q5_0:
    case DType::q8_0:
    case DType::iq4_nl: return put_f16(block, d);
    case DType::q4_1:
      put_f16(block, d);
      return put_f16(block + 2, -7.5f * d);
    case DType::q5_1:
      put_f16(block, d);
      return put_f16(block + 2, -15.5f * d);
    case DType::q2_k:
      for (int k = 0; k < 16; ++k) block[Q2K::scales + k] = (block[Q2K::scales + k] & std::byte{15}) | (block[Q2K::scales + k] << 4);
      put_f16(block + Q2K::d, d);
      return put_f16(block + Q2K::dmin, 1.5f * d);
    case DType::q3_k: return put_f16(block + Q3K::d, d);
    case DType::q4_k:
      equal_scale_min(block + Q4K::scales);
      put_f16(block + Q4K::d, d);
      return put_f16(block + Q4K::dmin, 7.5f * d);
    case DType::q5_k:
      equal_scale_min(block + Q5K::scales);
      put_f16(block + Q5K::d, d);
      return put_f16(block + Q5K::dmin, 15.5f * d);
    case DType::q6_k: return put_f16(block + Q6K::d, d);
    case DType::f32:
    case DType::f16:
    case DType::bf16: break;
  }
}

}  // namespace pagemill
