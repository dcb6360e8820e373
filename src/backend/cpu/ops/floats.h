// FloatsPlain, FloatsAvx2, FloatsAvx512: a few floats side by side, with the same members; WithBf16: one of them and operations on bf16. Private to ops_*.cpp.
//
// The kernels are written over one of them. The plain one is as wide as AVX2's and, as every lane is computed alike, runs the index
// logic of all of them on any machine. fma rounds once on every instance. They are in an unnamed namespace: nothing instantiated over them is shared with
// a file that has other compiler flags.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>

#include "base/dtype.h"

#if defined(__AVX2__)
#include <immintrin.h>
#endif

namespace pagemill::ops {
namespace {

struct FloatsPlain {
  static constexpr int kFloats = 8;
  static constexpr int kProductVectors = 2;  // side by side in a product's tile of six rows
  static constexpr bool kBf16Values = false;
  struct F {
    float at[kFloats];
  };

  template <class Body>
  static F each(Body&& body) {
    F out;
    for (int i = 0; i < kFloats; ++i) out.at[i] = body(i);
    return out;
  }
  static F set(float value) { return each([&](int) { return value; }); }
  static F load(const float* from) { return each([&](int i) { return from[i]; }); }
  static void store(float* to, F value) {
    for (int i = 0; i < kFloats; ++i) to[i] = value.at[i];
  }
  static F add(F a, F b) { return each([&](int i) { return a.at[i] + b.at[i]; }); }
  static F sub(F a, F b) { return each([&](int i) { return a.at[i] - b.at[i]; }); }
  static F mul(F a, F b) { return each([&](int i) { return a.at[i] * b.at[i]; }); }
  static F div(F a, F b) { return each([&](int i) { return a.at[i] / b.at[i]; }); }
  static F fma(F a, F b, F c) { return each([&](int i) { return std::fma(a.at[i], b.at[i], c.at[i]); }); }
  // As the instructions do: the second operand where either is NaN.
  static F max(F a, F b) { return each([&](int i) { return a.at[i] > b.at[i] ? a.at[i] : b.at[i]; }); }
  static F min(F a, F b) { return each([&](int i) { return a.at[i] < b.at[i] ? a.at[i] : b.at[i]; }); }
  /// The float whose sign and exponent are v's last nine bits, and 1.0 its fraction; 0 where those are 0.
  static F low_bits_as_exponent(F v) { return each([&](int i) { return std::bit_cast<float>(std::bit_cast<uint32_t>(v.at[i]) << 23); }); }

  static F load_f16(const uint16_t* from) { return each([&](int i) { return f16_to_f32(from[i]); }); }
  static F load_bf16(const uint16_t* from) { return each([&](int i) { return bf16_to_f32(from[i]); }); }
  static F load_i8(const int8_t* from) { return each([&](int i) { return static_cast<float>(from[i]); }); }
  static void store_f16(uint16_t* to, F value) {
    for (int i = 0; i < kFloats; ++i) to[i] = f32_to_f16(value.at[i]);
  }

  /// In one order: the halves are added, then theirs, then the last two.
  static float sum(F v) { return ((v.at[0] + v.at[4]) + (v.at[2] + v.at[6])) + ((v.at[1] + v.at[5]) + (v.at[3] + v.at[7])); }
  static float highest(F v) {
    float out = v.at[0];
    for (int i = 1; i < kFloats; ++i) out = v.at[i] > out ? v.at[i] : out;
    return out;
  }
};

#if defined(__AVX2__)
struct FloatsAvx2 {
  static constexpr int kFloats = 8;
  static constexpr int kProductVectors = 2;  // 12 sums of 16 registers: two hold the columns, one the factor
  static constexpr bool kBf16Values = false;
  using F = __m256;

  static F set(float value) { return _mm256_set1_ps(value); }
  static F load(const float* from) { return _mm256_loadu_ps(from); }
  static void store(float* to, F value) { _mm256_storeu_ps(to, value); }
  static F add(F a, F b) { return _mm256_add_ps(a, b); }
  static F sub(F a, F b) { return _mm256_sub_ps(a, b); }
  static F mul(F a, F b) { return _mm256_mul_ps(a, b); }
  static F div(F a, F b) { return _mm256_div_ps(a, b); }
  static F fma(F a, F b, F c) { return _mm256_fmadd_ps(a, b, c); }
  static F max(F a, F b) { return _mm256_max_ps(a, b); }
  static F min(F a, F b) { return _mm256_min_ps(a, b); }
  static F low_bits_as_exponent(F v) { return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_castps_si256(v), 23)); }

  static F load_f16(const uint16_t* from) { return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from))); }
  static F load_bf16(const uint16_t* from) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from))), 16));
  }
  static F load_i8(const int8_t* from) {
    return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(from))));
  }
  static void store_f16(uint16_t* to, F value) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm256_cvtps_ph(value, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
  }

  static float sum(F v) {
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
  }
  static float highest(F v) {
    const __m128 four = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
  }
};
#endif

#if defined(__AVX512F__)
struct FloatsAvx512 {
  static constexpr int kFloats = 16;
  static constexpr int kProductVectors = 4;  // 24 sums, so that six factors and four vectors are loaded for 24 multiply-adds
  static constexpr bool kBf16Values = false;
  using F = __m512;

  static F set(float value) { return _mm512_set1_ps(value); }
  static F load(const float* from) { return _mm512_loadu_ps(from); }
  static void store(float* to, F value) { _mm512_storeu_ps(to, value); }
  static F add(F a, F b) { return _mm512_add_ps(a, b); }
  static F sub(F a, F b) { return _mm512_sub_ps(a, b); }
  static F mul(F a, F b) { return _mm512_mul_ps(a, b); }
  static F div(F a, F b) { return _mm512_div_ps(a, b); }
  static F fma(F a, F b, F c) { return _mm512_fmadd_ps(a, b, c); }
  static F max(F a, F b) { return _mm512_max_ps(a, b); }
  static F min(F a, F b) { return _mm512_min_ps(a, b); }
  static F low_bits_as_exponent(F v) { return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_castps_si512(v), 23)); }

  static F load_f16(const uint16_t* from) { return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from))); }
  static F load_bf16(const uint16_t* from) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from))), 16));
  }
  static F load_i8(const int8_t* from) {
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from))));
  }
  static void store_f16(uint16_t* to, F value) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), _mm512_cvtps_ph(value, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
  }

  static float sum(F v) { return _mm512_reduce_add_ps(v); }
  static float highest(F v) { return _mm512_reduce_max_ps(v); }
};
#endif

/// V, and the operations B on bf16 (vec/avx512_bf16.h, vec/plain_bf16.h) by which attention then multiplies weights with values. A vector of pairs of bf16
/// goes as one of as many floats.
template <class V, class B>
struct WithBf16 : V {
  using F = typename V::F;
  static constexpr bool kBf16Values = true;
  static F dot_pairs(F sum, F a, F b) { return B::dot_pairs(sum, a, b); }
  static void round_pairs(F even, F odd, float* to) { B::round_pairs(even, odd, to); }
  static void round_sixteen(const float* from, void* to) { B::round_bf16(from, to); }
};

}  // namespace
}  // namespace pagemill::ops
