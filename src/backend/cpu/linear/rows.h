// Rounding of activations to int8, and the gated activation, over a vector type.
#pragma once

#include <algorithm>
#include <cstddef>

#include "backend/cpu/linear/formats.h"
#include "backend/cpu/linear/quantized_rows.h"

namespace pagemill::linear_detail {

/// The scales of eight blocks, and what x is multiplied with to be rounded.
template <class V>
struct EightScales {
  alignas(64) float scale[V::kLanes], inverse[V::kLanes];
};

template <class V>
PM_INLINE inline void find_scales(const float* x, EightScales<V>& to) {
  using F = typename V::F;
  constexpr int kVectors = 32 / V::kLanes;
  F largest[8];
  unroll<8>([&](auto b) PM_INLINE {
    largest[b] = V::zero_f();
    unroll<kVectors>([&](auto v) PM_INLINE { largest[b] = V::max(V::abs_f(V::load_f(x + 32 * b + v * V::kLanes)), largest[b]); });
  });
  // Smaller ones are rounded as if this were the largest: scales stay numbers that cores multiply fast, and 127 / most finite.
  const F most = V::max(V::max_of_each(largest), V::set_f(1e-30f));
  F scale = V::div(most, V::set_f(127));
  if constexpr (V::kWholeSums) scale = V::as_float(V::bit_and(V::add32(V::as_int(scale), V::set32(2)), V::set32(~3)));  // 22 bits, nearest
  V::store_f(to.scale, scale);
  V::store_f(to.inverse, V::div(V::set_f(127), most));
}

/// Eight blocks. Their numbers are computed side by side, in fours: those of blocks b … b + 3, beside those of b + 4 … b + 7 where V has 16 lanes.
template <class V>
PM_INLINE inline void round_eight(const float* x, const EightScales<V>& scales, QuantBlock* to, int64_t stride) {
  using F = typename V::F;
  using I = typename V::I;
  constexpr int kVectors = 32 / V::kLanes, kBlocks = V::kLanes / 8;  // of a block; whose codes are a vector of bytes
  unroll<2 / kBlocks>([&](auto fours) PM_INLINE {
    constexpr int first = 4 * fours;
    I bytes[4];
    unroll<4>([&](auto p) PM_INLINE {
      I codes[4];
      unroll<4>([&](auto c) PM_INLINE {
        constexpr int b = first + p + c / kVectors * 4, v = c % kVectors;
        codes[c] = V::to_int(V::mul(V::load_f(x + 32 * b + v * V::kLanes), V::broadcast_f(scales.inverse + b)));
      });
      bytes[p] = V::bytes_of(codes);
      unroll<kBlocks>([&](auto i) PM_INLINE { V::template store_block<i>(to[(first + p + 4 * i) * stride].q, bytes[p]); });
    });
    // Fours: of the first halves, of the second ones; then again.
    const I half = V::sums_of_16(bytes), other = V::swap_fours(half), sum = V::add32(half, other), begin = V::set32(V::kWholeSums ? kWholeBits : 0);
    const F scale = V::template fours_twice<fours>(V::load_f(scales.scale));
    F fields[4] = {scale, V::mul(scale, V::set_f(kWhole)), V::mul(scale, V::to_float(sum)), V::as_float(pair16<V>(half, other))};
    V::transpose_fours(fields);
    alignas(64) int32_t first_halves[V::kLanes], first_sums[V::kLanes];
    static_assert(kPanelZero == 1 << 7);
    V::store(first_halves, V::sub32(begin, V::template shift32_left<7>(half)));
    V::store(first_sums, V::sub32(begin, V::template shift32_left<7>(sum)));
    unroll<kBlocks>([&](auto i) PM_INLINE {
      unroll<4>([&](auto p) PM_INLINE {
        QuantBlock& block = to[(first + p + 4 * i) * stride];
        V::template store_four<2 * i>(reinterpret_cast<std::byte*>(&block) + offsetof(QuantBlock, scale), fields[p]);
        block.first_half = first_halves[8 * i + p];
        block.first_sum = first_sums[8 * i + p];
      });
    });
  });
}
static_assert(offsetof(QuantBlock, half_sum) == offsetof(QuantBlock, scale) + 12 && offsetof(QuantBlock, first_half) == offsetof(QuantBlock, scale) + 16);

/// Eights of blocks. All scales are found before anything is rounded, since a core does not look far enough ahead to do both at once by itself.
template <class V, int Eights>
void quantize_eights(const float* x, QuantBlock* to, int64_t stride, int64_t eight_stride) {
  EightScales<V> scales[Eights];
  for (int i = 0; i < Eights; ++i) find_scales<V>(x + i * 256, scales[i]);
  for (int i = 0; i < Eights; ++i) round_eight<V>(x + i * 256, scales[i], to + i * eight_stride, stride);
}

template <class V>
void quantize(const float* x, int64_t blocks, QuantBlock* to, int64_t stride, int64_t eight_stride) {
  const bool overlap = blocks > 8 && eight_stride == 8 * stride;
  for (; blocks >= 16; blocks -= 16, x += 512, to += 2 * eight_stride) quantize_eights<V, 2>(x, to, stride, eight_stride);
  if (blocks >= 8) {
    quantize_eights<V, 1>(x, to, stride, eight_stride);
    blocks -= 8, x += 256, to += eight_stride;
  }
  if (blocks == 0) return;
  if (overlap) return quantize_eights<V, 1>(x - 32 * (8 - blocks), to - (8 - blocks) * stride, stride, 0);  // some once more
  alignas(64) float rest[8 * 32] = {};
  QuantBlock last[8];
  std::copy_n(x, 32 * blocks, rest);
  quantize_eights<V, 1>(rest, last, 1, 0);
  for (int64_t i = 0; i < blocks; ++i) to[i * stride] = last[i];
}

/// gate[…] = silu(gate) · up of Vectors vectors side by side, since the operations of one wait for each other and a core looks only some three ahead.
/// e^x to 2e-7 relative: 2^n · p(r), n = round(x / ln 2), |r| ≤ ln 2 / 2, p the Taylor polynomial of degree 7.
template <class V, int Vectors>
PM_INLINE inline void silu_mul_some(float* gate, const float* up) {
  using F = typename V::F;
  F g[Vectors], r[Vectors], p[Vectors];
  typename V::I n[Vectors];
  const auto each = [](auto&& body) PM_INLINE { unroll<Vectors>(body); };
  each([&](auto i) PM_INLINE { g[i] = V::load_f(gate + i * V::kLanes); });
  each([&](auto i) PM_INLINE { r[i] = V::min(V::max(V::mul(g[i], V::set_f(-1)), V::set_f(-87)), V::set_f(88)); });
  each([&](auto i) PM_INLINE { n[i] = V::to_int(V::mul(r[i], V::set_f(1.44269504f))); });
  each([&](auto i) PM_INLINE { p[i] = V::to_float(n[i]); });
  each([&](auto i) PM_INLINE { r[i] = V::fma(p[i], V::set_f(-0.693145752f), r[i]); });  // ln 2 in two parts
  each([&](auto i) PM_INLINE { r[i] = V::fma(p[i], V::set_f(-1.42860677e-6f), r[i]); });
  each([&](auto i) PM_INLINE { p[i] = V::fma(V::set_f(1.0f / 5040), r[i], V::set_f(1.0f / 720)); });
  each([&](auto i) PM_INLINE { p[i] = V::fma(p[i], r[i], V::set_f(1.0f / 120)); });
  each([&](auto i) PM_INLINE { p[i] = V::fma(p[i], r[i], V::set_f(1.0f / 24)); });
  each([&](auto i) PM_INLINE { p[i] = V::fma(p[i], r[i], V::set_f(1.0f / 6)); });
  each([&](auto i) PM_INLINE { p[i] = V::fma(p[i], r[i], V::set_f(0.5f)); });
  each([&](auto i) PM_INLINE { p[i] = V::fma(p[i], r[i], V::set_f(1)); });
  each([&](auto i) PM_INLINE { p[i] = V::fma(p[i], r[i], V::set_f(1)); });
  each([&](auto i) PM_INLINE { p[i] = V::mul(p[i], V::as_float(V::template shift32_left<23>(V::add32(n[i], V::set32(127))))); });
  each([&](auto i) PM_INLINE { p[i] = V::div_fast(g[i], V::add(V::set_f(1), p[i])); });
  each([&](auto i) PM_INLINE { V::store_f(gate + i * V::kLanes, V::mul(p[i], V::load_f(up + i * V::kLanes))); });
}

template <class V>
void silu_mul(float* gate, const float* up, int64_t n) {
  constexpr int kMany = V::kLanes / 2, kFew = 32 / V::kLanes;
  for (; n >= kMany * V::kLanes; n -= kMany * V::kLanes, gate += kMany * V::kLanes, up += kMany * V::kLanes) silu_mul_some<V, kMany>(gate, up);
  for (; n > 0; n -= 32, gate += 32, up += 32) silu_mul_some<V, kFew>(gate, up);
}

}  // namespace pagemill::linear_detail
