// Rounding of activations to int8, and the gated activation, over a vector type.
#pragma once

#include "backend/cpu/linear/formats.h"
#include "backend/cpu/linear/quantized_rows.h"

namespace pagemill::linear_detail {

template <class V>
void quantize(const float* x, int64_t blocks, QuantBlock* to, int64_t stride) {
  using F = typename V::F;
  constexpr int kVectors = 32 / V::kLanes;
  for (; blocks > 0; --blocks, x += 32, to += stride) {
    F values[kVectors];
    F largest = V::zero_f();
    unroll<kVectors>([&](auto v) PM_INLINE {
      values[v] = V::load_f(x + v * V::kLanes);
      largest = V::max(V::abs_f(values[v]), largest);
    });
    const float most = V::reduce_max(largest);
    // Below this 127 / most is not finite; such a block counts as zeros.
    const F inverse = V::set_f(most > 1e-36f ? 127.0f / most : 0.0f);
    int sums[2] = {};
    unroll<kVectors>([&](auto v) PM_INLINE {
      // The bounds matter where x is not finite: kernels rely on |q| ≤ 127.
      const F scaled = V::min(V::max(V::mul(values[v], inverse), V::set_f(-127)), V::set_f(127));
      sums[v * V::kLanes / 16] += V::store_i8(to->q + v * V::kLanes, V::to_int(scaled));
    });
    to->scale = most / 127.0f;
    to->scaled_sum = to->scale * static_cast<float>(sums[0] + sums[1]);
    to->half_sum[0] = static_cast<int16_t>(sums[0]);
    to->half_sum[1] = static_cast<int16_t>(sums[1]);
  }
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
    V::store_f(gate + i, V::mul(V::div(g, denominator), V::load_f(up + i)));
  }
}

}  // namespace pagemill::linear_detail
