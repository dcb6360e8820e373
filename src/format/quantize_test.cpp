#include "format/quantize.h"

#include <cmath>
#include <cstring>
#include <fstream>
#include <sstream>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "base/json.h"
#include "base/rng.h"
#include "support/paths.h"

namespace pagemill {
namespace {

constexpr DType kAll[] = {DType::f32,  DType::f16,  DType::bf16, DType::q4_0, DType::q4_1, DType::q5_0, DType::q5_1,
                          DType::q8_0, DType::q2_k, DType::q3_k, DType::q4_k, DType::q5_k, DType::q6_k, DType::iq4_nl};

const json::object& golden() {
  static const json::value document = [] {
    std::ifstream file(test::source_path("src/format/testdata/quants.json"));
    std::stringstream text;
    text << file.rdbuf();
    return parse_json(text.str()).value();
  }();
  return document.as_object();
}

std::string hex(const void* data, size_t bytes) {
  std::string out;
  for (size_t i = 0; i < bytes; ++i) out += fmt::format("{:02x}", static_cast<const unsigned char*>(data)[i]);
  return out;
}

// As in script/goldens/format_quants.py.
std::string hash_of(std::span<const float> values) {
  uint64_t sum = 0;
  for (uint64_t i = 0; i < values.size(); ++i) {
    uint32_t bits;
    std::memcpy(&bits, &values[i], sizeof bits);
    sum += (uint64_t{bits} + 1) * (i * 0x9E3779B97F4A7C15 | 1);
  }
  return fmt::format("{:016x}", sum);
}

std::vector<std::byte> random_blocks(DType dtype, const json::array& scales) {
  const auto block = static_cast<size_t>(traits(dtype).block_bytes);
  const size_t count = golden().at("blocks").to_number<size_t>();
  SplitMix64 random(golden().at("seed").to_number<uint64_t>());
  std::vector<std::byte> bytes(count * block);
  for (size_t i = 0; i < bytes.size(); i += 8) {
    const uint64_t word = random();
    std::memcpy(bytes.data() + i, &word, std::min<size_t>(8, bytes.size() - i));
  }
  for (size_t i = 0; i < count; ++i) {
    for (const json::value& at : scales) {
      std::byte& high = bytes[i * block + at.to_number<size_t>() + 1];
      if ((high & std::byte{0x7C}) == std::byte{0x7C}) high &= std::byte{0xBF};
    }
  }
  return bytes;
}

TEST(Dequantize, EqualToGgufPyBitForBit) {
  for (const DType dtype : kAll) {
    if (!traits(dtype).quantized) continue;
    const json::object& expected = golden().at("dequantize").at(std::string(to_string(dtype))).as_object();
    const auto bytes = random_blocks(dtype, expected.at("scales").as_array());
    const auto elems = static_cast<size_t>(traits(dtype).block_elems);
    std::vector<float> values(bytes.size() / static_cast<size_t>(traits(dtype).block_bytes) * elems);
    dequantize_row(dtype, bytes, values);
    EXPECT_EQ(hex(bytes.data(), 2 * static_cast<size_t>(traits(dtype).block_bytes)), expected.at("first_blocks").as_string());
    EXPECT_EQ(hex(values.data(), 2 * elems * sizeof(float)), expected.at("first_values").as_string()) << to_string(dtype);
    EXPECT_EQ(hash_of(values), expected.at("hash").as_string()) << to_string(dtype);
  }
}

TEST(Dequantize, EverySixteenBitPatternEqualToGgufPy) {
  std::vector<uint16_t> patterns(65'536);
  for (size_t i = 0; i < patterns.size(); ++i) patterns[i] = static_cast<uint16_t>(i);
  std::vector<float> values(patterns.size());
  for (const DType dtype : {DType::f16, DType::bf16}) {
    dequantize_row(dtype, std::as_bytes(std::span(patterns)), values);
    for (float& value : values)
      if (std::isnan(value)) value = 0;
    EXPECT_EQ(hash_of(values), golden().at("dequantize").at(std::string(to_string(dtype))).at("hash").as_string());
  }
}

double rmse(std::span<const float> a, std::span<const float> b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += std::pow(double{a[i]} - double{b[i]}, 2);
  return std::sqrt(sum / static_cast<double>(a.size()));
}

double round_trip_rmse(DType dtype, std::span<const float> x) {
  std::vector<std::byte> bytes(static_cast<size_t>(row_bytes(dtype, static_cast<int64_t>(x.size()))));
  std::vector<float> back(x.size());
  quantize_row(dtype, x, bytes);
  dequantize_row(dtype, bytes, back);
  return rmse(x, back);
}

// Sums of four 16-bit words around 0, as in the golden's script; standard deviation 0.577.
std::vector<float> bell_curve(size_t count) {
  SplitMix64 random(golden().at("seed").to_number<uint64_t>());
  std::vector<float> x(count);
  for (float& value : x) {
    const uint64_t w = random();
    const auto sum = static_cast<int64_t>((w & 0xFFFF) + (w >> 16 & 0xFFFF) + (w >> 32 & 0xFFFF) + (w >> 48));
    value = static_cast<float>(sum - 131'070) * 0x1p-16f;
  }
  return x;
}

TEST(Quantize, NoWorseThanGgufPy) {
  const auto x = bell_curve(golden().at("quantize").at("values").to_number<size_t>());
  for (const auto& [name, theirs] : golden().at("quantize").at("rmse").as_object()) {
    const double ours = round_trip_rmse(*dtype_from_name(name), x);
    EXPECT_LE(ours, theirs.as_double() * 1.005) << name;
    EXPECT_GE(ours, theirs.as_double() * 0.7) << name << ": too good to be true";
  }
}

TEST(Quantize, ErrorOfEachTypeOnABellCurve) {
  const auto x = bell_curve(131'072);
  double power = 0;
  for (const float value : x) power += double{value} * value;
  const double deviation = std::sqrt(power / static_cast<double>(x.size()));
  // Relative to the standard deviation. The ideal uniform quantiser of a normal variable reaches 0.34, 0.19, 0.107, 0.060,
  // 0.034 and 0.010 with 2, 3, 4, 5, 6 and 8 bits; per-block scales do a little better or worse.
  const std::pair<DType, double> bounds[] = {{DType::f32, 0},        {DType::f16, 0.00025},  {DType::bf16, 0.0020}, {DType::q8_0, 0.006},
                                             {DType::q6_k, 0.019},   {DType::q5_k, 0.045},  {DType::q5_1, 0.045},  {DType::q5_0, 0.050},
                                             {DType::q4_k, 0.090},   {DType::q4_1, 0.090},  {DType::iq4_nl, 0.095}, {DType::q4_0, 0.100},
                                             {DType::q3_k, 0.190},   {DType::q2_k, 0.340}};
  for (const auto& [dtype, bound] : bounds) {
    const double relative = round_trip_rmse(dtype, x) / deviation;
    EXPECT_LE(relative, bound) << to_string(dtype);
    EXPECT_GE(relative, bound * 0.7) << to_string(dtype) << ": the bound is too wide to catch anything";
  }
}

TEST(Quantize, WhatATypeCanHoldComesBackExactly) {
  for (const DType dtype : kAll) {
    const std::vector<float> zeros(256, 0.0f);
    EXPECT_EQ(round_trip_rmse(dtype, zeros), 0) << to_string(dtype);
    // Every value equal: one step of the scale.
    EXPECT_LE(round_trip_rmse(dtype, std::vector<float>(256, 1.0f)), 0.01) << to_string(dtype);
    EXPECT_LE(round_trip_rmse(dtype, std::vector<float>(256, -1.0f)), 0.01) << to_string(dtype);
  }
}

TEST(Quantize, ExtremesStayFinite) {
  for (const DType dtype : kAll) {
    if (!traits(dtype).quantized) continue;
    for (const float magnitude : {1e-40f, 1e-20f, 1e-6f, 1e4f, 1e20f, 3e38f}) {
      std::vector<float> x(256);
      SplitMix64 random(7);
      for (float& value : x) value = magnitude * static_cast<float>(2 * random.uniform() - 1);
      std::vector<std::byte> bytes(static_cast<size_t>(row_bytes(dtype, 256)));
      std::vector<float> back(256);
      quantize_row(dtype, x, bytes);
      dequantize_row(dtype, bytes, back);
      for (const float value : back) ASSERT_TRUE(std::isfinite(value)) << to_string(dtype) << " at " << magnitude;
    }
  }
}

TEST(Quantize, FallsBackWhereBlocksDoNotDivideTheRow) {
  EXPECT_EQ(fitting_dtype(DType::q4_k, 512), DType::q4_k);
  EXPECT_EQ(fitting_dtype(DType::q4_k, 896), DType::q5_0);
  EXPECT_EQ(fitting_dtype(DType::q5_k, 896), DType::q5_1);
  EXPECT_EQ(fitting_dtype(DType::q6_k, 896), DType::q8_0);
  EXPECT_EQ(fitting_dtype(DType::q3_k, 896), DType::iq4_nl);
  EXPECT_EQ(fitting_dtype(DType::q2_k, 896), DType::iq4_nl);
  EXPECT_EQ(fitting_dtype(DType::q4_k, 40), DType::f16);
  EXPECT_EQ(fitting_dtype(DType::q8_0, 40), DType::f16);
  EXPECT_EQ(fitting_dtype(DType::bf16, 7), DType::bf16);
}

}  // namespace
}  // namespace pagemill
