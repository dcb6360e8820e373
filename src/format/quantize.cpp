#include "format/quantize.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "base/check.h"
#include "base/quant_blocks.h"
#include "format/quant_fit.h"
#include "format/quantize_k.h"

namespace pagemill {
namespace {

using namespace blocks;

// Byte e of 16 holds elements e (low nibble) and e + 16 (high nibble).
void put_nibbles(std::byte* qs, const std::array<int, kSmall>& q) {
  for (size_t e = 0; e < kSmall / 2; ++e) qs[e] = static_cast<std::byte>((q[e] & 15) | (q[e + 16] & 15) << 4);
}

void put_fifth_bits(std::byte* qh, const std::array<int, kSmall>& q) {
  uint32_t high = 0;
  for (size_t e = 0; e < kSmall; ++e) high |= static_cast<uint32_t>(q[e] >> 4 & 1) << e;
  std::memcpy(qh, &high, sizeof high);
}

// q in [0, −2·low) for x ≈ d·(q + low), d stored at the start of the block.
std::array<int, kSmall> symmetric(const float* x, int low, std::byte* block) {
  const float d = stored_f16(fit_scale({x, kSmall}, low, -low - 1));
  put_f16(block, d);
  std::array<int, kSmall> q;
  for (size_t e = 0; e < kSmall; ++e) q[e] = round_into(x[e] * reciprocal(d), low, -low - 1) - low;
  return q;
}

// q in [0, high] for x ≈ d·q + m, both stored at the start of the block.
std::array<int, kSmall> affine(const float* x, int high, std::byte* block) {
  const AffineFit fit = fit_affine({x, kSmall}, high, false);
  const float d = stored_f16(fit.scale), m = stored_f16(fit.min);
  put_f16(block, d);
  put_f16(block + 2, m);
  std::array<int, kSmall> q;
  for (size_t e = 0; e < kSmall; ++e) q[e] = round_into((x[e] - m) * reciprocal(d), 0, high);
  return q;
}

void q4_0(const float* x, std::byte* block) { put_nibbles(block + 2, symmetric(x, -8, block)); }
void q4_1(const float* x, std::byte* block) { put_nibbles(block + 4, affine(x, 15, block)); }

void q5_0(const float* x, std::byte* block) {
  const auto q = symmetric(x, -16, block);
  put_fifth_bits(block + 2, q);
  put_nibbles(block + 6, q);
}

void q5_1(const float* x, std::byte* block) {
  const auto q = affine(x, 31, block);
  put_fifth_bits(block + 4, q);
  put_nibbles(block + 8, q);
}

void q8_0(const float* x, std::byte* block) {
  float peak = 0;
  for (int e = 0; e < kSmall; ++e) peak = std::max(peak, std::fabs(x[e]));
  const float d = stored_f16(peak / 127);
  put_f16(block, d);
  for (int e = 0; e < kSmall; ++e) block[2 + e] = static_cast<std::byte>(round_into(x[e] * reciprocal(d), -127, 127));
}

// The index of the IQ4_NL value nearest to v, for whole v from −127 to 127.
constexpr auto kNearestIq4Nl = [] {
  std::array<uint8_t, 255> nearest{};
  for (int v = -127; v <= 127; ++v) {
    int best = 0;
    for (int i = 1; i < 16; ++i) {
      const int here = kIq4NlValues[static_cast<size_t>(i)] - v, there = kIq4NlValues[static_cast<size_t>(best)] - v;
      if (here * here < there * there) best = i;
    }
    nearest[static_cast<size_t>(v + 127)] = static_cast<uint8_t>(best);
  }
  return nearest;
}();
int nearest_iq4_nl(float value) { return kNearestIq4Nl[static_cast<size_t>(round_into(value, -127, 127) + 127)]; }

// As fit_scale, with the table's values in the place of whole numbers.
float fit_iq4_nl_scale(const float* x) {
  float peak = 0;
  for (int e = 0; e < kSmall; ++e)
    if (std::fabs(x[e]) > std::fabs(peak)) peak = x[e];
  const float per_peak = reciprocal(peak);
  float best_gain = 0, best_scale = 0;
  for (int reach = -160; reach <= -90; reach += 4) {  // where the peak would come to lie
    float xv = 0, vv = 0;
    for (int e = 0; e < kSmall; ++e) {
      const auto v = static_cast<float>(kIq4NlValues[static_cast<size_t>(nearest_iq4_nl(x[e] * per_peak * static_cast<float>(reach)))]);
      xv += x[e] * v;
      vv += v * v;
    }
    if (xv * xv > best_gain * vv) {
      best_gain = xv * xv / vv;
      best_scale = xv / vv;
    }
  }
  return best_scale;
}

void iq4_nl(const float* x, std::byte* block) {
  const float d = stored_f16(fit_iq4_nl_scale(x));
  put_f16(block, d);
  std::array<int, kSmall> q;
  for (size_t e = 0; e < kSmall; ++e) q[e] = nearest_iq4_nl(x[e] * reciprocal(d));
  put_nibbles(block + 2, q);
}

template <void (*Block)(const float*, std::byte*), DType Type>
void every_block(std::span<const float> src, std::span<std::byte> dst) {
  const DTypeTraits& t = traits(Type);
  const size_t count = src.size() / static_cast<size_t>(t.block_elems);
  for (size_t i = 0; i < count; ++i)
    Block(src.data() + i * static_cast<size_t>(t.block_elems), dst.data() + i * static_cast<size_t>(t.block_bytes));
}

template <uint16_t (*Convert)(float)>
void sixteen_bits(std::span<const float> src, std::span<std::byte> dst) {
  for (size_t i = 0; i < src.size(); ++i) {
    const uint16_t bits = Convert(src[i]);
    std::memcpy(dst.data() + 2 * i, &bits, sizeof bits);
  }
}

}  // namespace

void quantize_row(DType dtype, std::span<const float> src, std::span<std::byte> dst) {
  PM_CHECK(static_cast<int64_t>(dst.size()) == row_bytes(dtype, static_cast<int64_t>(src.size())), "{} bytes for {} elements of {}",
           dst.size(), src.size(), to_string(dtype));
  switch (dtype) {
    case DType::f32:
      if (!src.empty()) std::memcpy(dst.data(), src.data(), dst.size());
      return;
    case DType::f16: return sixteen_bits<f32_to_f16>(src, dst);
    case DType::bf16: return sixteen_bits<f32_to_bf16>(src, dst);
    case DType::q4_0: return every_block<q4_0, DType::q4_0>(src, dst);
    case DType::q4_1: return every_block<q4_1, DType::q4_1>(src, dst);
    case DType::q5_0: return every_block<q5_0, DType::q5_0>(src, dst);
    case DType::q5_1: return every_block<q5_1, DType::q5_1>(src, dst);
    case DType::q8_0: return every_block<q8_0, DType::q8_0>(src, dst);
    case DType::q2_k: return every_block<quantize_block_q2_k, DType::q2_k>(src, dst);
    case DType::q3_k: return every_block<quantize_block_q3_k, DType::q3_k>(src, dst);
    case DType::q4_k: return every_block<quantize_block_q4_k, DType::q4_k>(src, dst);
    case DType::q5_k: return every_block<quantize_block_q5_k, DType::q5_k>(src, dst);
    case DType::q6_k: return every_block<quantize_block_q6_k, DType::q6_k>(src, dst);
    case DType::iq4_nl: return every_block<iq4_nl, DType::iq4_nl>(src, dst);
  }
}

DType fitting_dtype(DType wanted, int64_t elems) {
  const auto divides = [&](DType dtype) { return elems % traits(dtype).block_elems == 0; };
  if (divides(wanted)) return wanted;
  DType fallback = wanted;
  switch (wanted) {
    case DType::q4_k: fallback = DType::q5_0; break;
    case DType::q5_k: fallback = DType::q5_1; break;
    case DType::q6_k: fallback = DType::q8_0; break;
    case DType::q2_k:
    case DType::q3_k: fallback = DType::iq4_nl; break;
    default: break;
  }
  return divides(fallback) ? fallback : DType::f16;
}

}  // namespace pagemill
