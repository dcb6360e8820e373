// Rounding of activations to int8, and the gated activation, over a vector type.
#pragma once

#include "backend/cpu/linear/formats.h"
#include "backend/cpu/linear/quantized_rows.h"

namespace pagemill::linear_detail {

/// Count blocks: eight, whose scales are computed side by side, or one.
template <class V, int Count>
void quantize_some(const float* x, QuantBlock* to, int64_t stride) {
  using F = typename V::F;
  constexpr int kVectors = 32 / V::kLanes;
  static_assert(Count <= V::kLanes);
  F largest[Count];
  unroll<Count>([&](auto b) PM_INLINE {
    largest[b] = V::zero_f();
    unroll<kVectors>([&](auto v) PM_INLINE { largest[b] = V::max(V::abs_f(V::load_f(x + 32 * b + v * V::kLanes)), largest[b]); });
  });
  F most;
  if constexpr (Count == 1) most = V::set_f(V::reduce_max(largest[0]));
  else most = V::max_of_each(largest);
  // Smaller ones are rounded as if this were the largest: scales stay numbers that cores multiply fast, and 127 / most finite.
  most = V::max(most, V::set_f(1e-30f));
  F scale = V::div(most, V::set_f(127));
  if constexpr (V::kWholeSums) scale = V::as_float(V::bit_and(V::add32(V::as_int(scale), V::set32(2)), V::set32(~3)));  // 22 bits, nearest
  alignas(64) float scales[V::kLanes], inverses[V::kLanes], whole_scales[V::kLanes];
  V::store_f(scales, scale);
  V::store_f(whole_scales, V::mul(scale, V::set_f(kWhole)));
  V::store_f(inverses, V::div(V::set_f(127), most));
  unroll<Count>([&](auto b) PM_INLINE {
    const F inverse = V::broadcast_f(inverses + b);
    typename V::I codes[kVectors];
    unroll<kVectors>([&](auto v) PM_INLINE {
      // The bounds matter where x is not finite: kernels rely on |q| ≤ 127.
      codes[v] = V::to_int(V::min(V::max(V::mul(V::load_f(x + 32 * b + v * V::kLanes), inverse), V::set_f(-127)), V::set_f(127)));
    });
    int32_t sums[2];
    V::store_codes(to->q, codes, sums);
    to->scale = scales[b];
    to->whole_scale = whole_scales[b];
    to->scaled_sum = scales[b] * static_cast<float>(sums[0] + sums[1]);
    to->half_sum[0] = static_cast<int16_t>(sums[0]);
    to->half_sum[1] = static_cast<int16_t>(sums[1]);
    to->first_sum = (V::kWholeSums ? kWholeBits : 0) - kPanelZero * (sums[0] + sums[1]);
    to += stride;
  });
}

template <class V>
void quantize(const float* x, int64_t blocks, QuantBlock* to, int64_t stride) {
  int64_t block = 0;
  for (; block + 8 <= blocks; block += 8) quantize_some<V, 8>(x + 32 * block, to + block * stride, stride);
  for (; block < blocks; ++block) quantize_some<V, 1>(x + 32 * block, to + block * stride, stride);
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
