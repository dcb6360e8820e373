// Bodies of the row-wise operations over a vector type V (vec/): private to ops_*.cpp.
#pragma once

#include <cmath>
#include <cstring>

#include "backend/cpu/ops/floats.h"
#include "backend/cpu/ops/ops.h"
#include "base/dtype.h"

namespace pagemill::ops {

/// x[i] = 2^x[i] for x ≤ 127: 0 below −125.5 and for −infinity. Error below 2 units in the last place: 2^r on [−1/2, 1/2] by the polynomial of degree 6
/// in r·ln 2 (Taylor; its remainder is 1.2e-7 of the value), times a power of two put together from its bits. Vectors are done side by side, since the
/// operations of one wait for each other and a core looks only some three ahead.
template <class V, int Vectors>
inline void exp2(typename V::F (&x)[Vectors]) {
  using F = typename V::F;
  // A number below 2^22 that this is added to becomes whole, n, and the sum's last nine bits are n + 126, of 2^(n − 1); p is twice 2^r.
  const F whole = V::set(12582912.0f + 126.0f);
  F n[Vectors], r[Vectors], p[Vectors];
#pragma GCC unroll 8
  for (int i = 0; i < Vectors; ++i) x[i] = V::max(V::min(x[i], V::set(127.0f)), V::set(-126.0f));
#pragma GCC unroll 8
  for (int i = 0; i < Vectors; ++i) n[i] = V::add(x[i], whole);
#pragma GCC unroll 8
  for (int i = 0; i < Vectors; ++i) r[i] = V::mul(V::sub(x[i], V::sub(n[i], whole)), V::set(0.693147181f));
#pragma GCC unroll 8
  for (int i = 0; i < Vectors; ++i) p[i] = V::fma(V::set(2.0f / 720), r[i], V::set(2.0f / 120));
  for (const float coefficient : {2.0f / 24, 2.0f / 6, 1.0f, 2.0f, 2.0f})
#pragma GCC unroll 8
    for (int i = 0; i < Vectors; ++i) p[i] = V::fma(p[i], r[i], V::set(coefficient));
#pragma GCC unroll 8
  for (int i = 0; i < Vectors; ++i) x[i] = V::mul(p[i], V::low_bits_as_exponent(n[i]));
}

/// Loads, and stores, n < V::kFloats elements; the rest counts as 0.
template <class V>
inline typename V::F load_part(const float* from, int64_t n) {
  float part[V::kFloats] = {};
  std::memcpy(part, from, static_cast<size_t>(n) * sizeof(float));
  return V::load(part);
}
template <class V>
inline void store_part(float* to, typename V::F value, int64_t n) {
  float part[V::kFloats];
  V::store(part, value);
  std::memcpy(to, part, static_cast<size_t>(n) * sizeof(float));
}

/// Calls body(load, store) for whole vectors and once for what is left.
template <class V, class Body>
inline void for_vectors(int64_t n, Body&& body) {
  int64_t i = 0;
  for (; i + V::kFloats <= n; i += V::kFloats)
    body([i](const float* from) { return V::load(from + i); }, [i](float* to, typename V::F value) { V::store(to + i, value); });
  if (i < n)
    body([i, n](const float* from) { return load_part<V>(from + i, n - i); },
         [i, n](float* to, typename V::F value) { store_part<V>(to + i, value, n - i); });
}

template <class V>
void add_rms_norm(float* x, const float* delta, const float* weight, float eps, int64_t n, float* out) {
  typename V::F squares = V::set(0);
  for_vectors<V>(n, [&](auto load, auto store) {
    typename V::F value = load(x);
    if (delta != nullptr) {
      value = V::add(value, load(delta));
      store(x, value);
    }
    squares = V::fma(value, value, squares);
  });
  const float scale = 1.0f / std::sqrt(V::sum(squares) / static_cast<float>(n) + eps);
  for_vectors<V>(n, [&](auto load, auto store) { store(out, V::mul(V::mul(load(x), V::set(scale)), load(weight))); });
}

template <class V>
void add(float* x, const float* delta, int64_t n) {
  for_vectors<V>(n, [&](auto load, auto store) { store(x, V::add(load(x), load(delta))); });
}

template <class V>
void scale(const float* x, float factor, int64_t n, float* out) {
  for_vectors<V>(n, [&](auto load, auto store) { store(out, V::mul(load(x), V::set(factor))); });
}

template <class V>
void silu_mul(const float* gate, const float* up, int64_t n, float* out) {
  for_vectors<V>(n, [&](auto load, auto store) {
    const typename V::F g = load(gate);
    typename V::F power[1] = {V::mul(g, V::set(-1.44269504f))};
    exp2<V>(power);
    store(out, V::mul(V::div(g, V::add(V::set(1.0f), power[0])), load(up)));
  });
}

template <class V>
void rotate(float* x, int32_t heads, int32_t head_dim, const float* cosines, const float* sines) {
  const int32_t half = head_dim / 2;
  for (int32_t head = 0; head < heads; ++head) {
    float *low = x + int64_t{head} * head_dim, *high = low + half;
    for_vectors<V>(half, [&](auto load, auto store) {
      const typename V::F a = load(low), b = load(high), c = load(cosines), s = load(sines);
      store(low, V::sub(V::mul(a, c), V::mul(b, s)));
      store(high, V::add(V::mul(b, c), V::mul(a, s)));
    });
  }
}

/// head_dim floats rounded to 16 bits.
template <class V>
void narrow(DType dtype, const float* from, int32_t n, uint16_t* to) {
  int32_t i = 0;
  if (dtype == DType::f16)
    for (; i + V::kFloats <= n; i += V::kFloats) V::store_f16(to + i, V::load(from + i));
  for (; i < n; ++i) to[i] = dtype == DType::f16 ? f32_to_f16(from[i]) : f32_to_bf16(from[i]);
}

template <class Element>
inline void scatter(const Element* from, int32_t n, std::byte* to, int32_t offset) {
  auto* at = reinterpret_cast<Element*>(to) + offset;
  for (int32_t i = 0; i < n; ++i) at[int64_t{i} * limits::kBlockTokens] = from[i];
}

template <class V>
void store_kv(DType dtype, const float* key, const float* value, int32_t head_dim, KvHeadBlock to, int32_t offset) {
  constexpr int32_t kPiece = 256;
  switch (dtype) {
    case DType::f32:
      scatter(key, head_dim, to.keys, offset);
      std::memcpy(to.values + int64_t{offset} * head_dim * 4, value, static_cast<size_t>(head_dim) * 4);
      return;
    case DType::q8_0: {
      const int32_t parts = head_dim / kKvScaleElems;
      for (int32_t part = 0; part < parts; ++part) {
        int8_t codes[kKvScaleElems];
        const int32_t first = part * kKvScaleElems;
        to.key_scales[part * limits::kBlockTokens + offset] = quantise_q8_0(key + first, codes);
        scatter(codes, kKvScaleElems, to.keys + int64_t{first} * limits::kBlockTokens, offset);
        to.value_scales[offset * parts + part] = quantise_q8_0(value + first, codes);
        std::memcpy(to.values + int64_t{offset} * head_dim + first, codes, sizeof codes);
      }
      return;
    }
    default: {
      uint16_t rounded[kPiece];
      for (int32_t first = 0; first < head_dim; first += kPiece) {
        const int32_t n = head_dim - first < kPiece ? head_dim - first : kPiece;
        narrow<V>(dtype, key + first, n, rounded);
        scatter(rounded, n, to.keys + int64_t{first} * limits::kBlockTokens * 2, offset);
      }
      narrow<V>(dtype, value, head_dim, reinterpret_cast<uint16_t*>(to.values) + int64_t{offset} * head_dim);
      return;
    }
  }
}

}  // namespace pagemill::ops
