// Rounding of activations to int8, and the gated activation, over a vector type.
#pragma once

#include <algorithm>
#include <cstddef>

#include "backend/cpu/linear/formats.h"
#include "backend/cpu/linear/quantized_rows.h"

namespace pagemill::linear_detail {

/// Eight blocks. Their numbers are computed side by side, in fours: those of blocks b … b + 3, beside those of b + 4 … b + 7 where V has 16 lanes.
template <class V>
void quantize_eight(const float* x, QuantBlock* to, int64_t stride) {
  using F = typename V::F;
  using I = typename V::I;
  constexpr int kVectors = 32 / V::kLanes, kBlocks = V::kLanes / 8;  // of a block; whose codes are a vector of bytes
  F largest[8];
  unroll<8>([&](auto b) PM_INLINE {
    largest[b] = V::zero_f();
    unroll<kVectors>([&](auto v) PM_INLINE { largest[b] = V::max(V::abs_f(V::load_f(x + 32 * b + v * V::kLanes)), largest[b]); });
  });
  // Smaller ones are rounded as if this were the largest: scales stay numbers that cores multiply fast, and 127 / most finite.
  const F most = V::max(V::max_of_each(largest), V::set_f(1e-30f));
  F scale = V::div(most, V::set_f(127));
  if constexpr (V::kWholeSums) scale = V::as_float(V::bit_and(V::add32(V::as_int(scale), V::set32(2)), V::set32(~3)));  // 22 bits, nearest
  alignas(64) float inverses[V::kLanes];
  V::store_f(inverses, V::div(V::set_f(127), most));

  unroll<2 / kBlocks>([&](auto fours) PM_INLINE {
    constexpr int first = 4 * fours;
    I bytes[4];
    unroll<4>([&](auto p) PM_INLINE {
      I codes[4];
      unroll<4>([&](auto c) PM_INLINE {
        constexpr int b = first + p + c / kVectors * 4, v = c % kVectors;
        codes[c] = V::to_int(V::mul(V::load_f(x + 32 * b + v * V::kLanes), V::broadcast_f(inverses + b)));
      });
      bytes[p] = V::bytes_of(codes);
      unroll<kBlocks>([&](auto i) PM_INLINE { V::template store_block<i>(to[(first + p + 4 * i) * stride].q, bytes[p]); });
    });
    // Fours: of the first halves, of the second ones; then again.
    const I half = V::sums_of_16(bytes), other = V::swap_fours(half), sum = V::add32(half, other), begin = V::set32(V::kWholeSums ? kWholeBits : 0);
    const F block_scale = V::template fours_twice<fours>(scale);
    F fields[4] = {block_scale, V::mul(block_scale, V::set_f(kWhole)), V::mul(block_scale, V::to_float(sum)), V::as_float(pair16<V>(half, other))};
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

template <class V>
void quantize(const float* x, int64_t blocks, QuantBlock* to, int64_t stride) {
  int64_t block = 0;
  for (; block + 8 <= blocks; block += 8) quantize_eight<V>(x + 32 * block, to + block * stride, stride);
  if (block == blocks) return;
  alignas(64) float rest[8 * 32] = {};
  QuantBlock last[8];
  std::copy_n(x + 32 * block, 32 * (blocks - block), rest);
  quantize_eight<V>(rest, last, 1);
  for (int64_t i = 0; block < blocks; ++block, ++i) to[block * stride] = last[i];
}

/// e^x to 2e-7 relative: 2^n · p(r), n = round(x / ln 2), |r| ≤ ln 2 / 2, p the Taylor polynomial of degree 7.
template <class V>
PM_INLINE inline typename V::F exp(typename V::F x) {
  using F = typename V::F;
  x = V::min(V::max(x, V::set_f(-87)), V::set_f(88));
  const auto n = V::to_int(V::mul(x, V::set_f(1.44269504f)));
  const F whole = V::to_float(n);
  F r = V::fma(whole, V::set_f(-0.693145752f), x);  // ln 2 in two parts
  r = V::fma(whole, V::set_f(-1.42860677e-6f), r);
  F p = V::set_f(1.0f / 5040);
  p = V::fma(p, r, V::set_f(1.0f / 720));
  p = V::fma(p, r, V::set_f(1.0f / 120));
  p = V::fma(p, r, V::set_f(1.0f / 24));
  p = V::fma(p, r, V::set_f(1.0f / 6));
  p = V::fma(p, r, V::set_f(0.5f));
  p = V::fma(p, r, V::set_f(1));
  p = V::fma(p, r, V::set_f(1));
  return V::mul(p, V::as_float(V::template shift32_left<23>(V::add32(n, V::set32(127)))));
}

template <class V>
void silu_mul(float* gate, const float* up, int64_t n) {
  for (int64_t i = 0; i < n; i += V::kLanes) {
    const auto g = V::load_f(gate + i);
    const auto denominator = V::add(V::set_f(1), linear_detail::exp<V>(V::mul(g, V::set_f(-1))));
    V::store_f(gate + i, V::mul(V::div_fast(g, denominator), V::load_f(up + i)));
  }
}

}  // namespace pagemill::linear_detail
