// PlainBf16: avx512_bf16.h in portable C++, over vectors of any width.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "base/dtype.h"

namespace pagemill::vec {

struct PlainBf16 {
  template <class F, class I>
  static F dot_pairs(F acc, const I& a, const I& b) {
    constexpr int kLanes = sizeof acc / sizeof(float);
    float sums[kLanes];
    static_assert(sizeof a == sizeof sums);
    std::memcpy(sums, &acc, sizeof sums);
    // A product of two bf16 is exact in f32: rounding it and the sum one by one is the fused operation.
    for (const int odd : {1, 0})
      for (int i = 0; i < kLanes; ++i) sums[i] += element(&a, 2 * i + odd) * element(&b, 2 * i + odd);
    std::memcpy(&acc, sums, sizeof sums);
    return acc;
  }
  static void round_bf16(const float* x, void* to) {
    for (int i = 0; i < 16; ++i) round_one(x[i], to, i);
  }
  template <bool>
  static void round_row(const float* x, void* to) {
    for (int i = 0; i < 32; ++i) round_one(x[i], to, i);
  }
  template <class F>
  static void round_pairs(const F& even, const F& odd, void* to) {
    constexpr int kLanes = sizeof even / sizeof(float);
    float values[2][kLanes];
    std::memcpy(values[0], &even, sizeof even);
    std::memcpy(values[1], &odd, sizeof odd);
    for (int i = 0; i < 2 * kLanes; ++i) round_one(values[i % 2][i / 2], to, i);
  }

 protected:
  static float element(const void* from, int index) {
    uint16_t bits;
    std::memcpy(&bits, static_cast<const std::byte*>(from) + 2 * index, sizeof bits);
    return (bits & 0x7f80) == 0 ? 0 : bf16_to_f32(bits);
  }

 private:
  static void round_one(float x, void* to, int index) {
    const uint16_t bits = f32_to_bf16(std::fabs(x) < 0x1p-126f ? 0.0f : x);
    std::memcpy(static_cast<std::byte*>(to) + 2 * index, &bits, sizeof bits);
  }
};

}  // namespace pagemill::vec
