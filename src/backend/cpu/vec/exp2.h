// 2^x of vectors of floats, for the vector types of linear/ (plain.h, avx2.h, avx512.h) and of ops/ (floats.h) alike.
//
// 2^r for the fraction r of x, in [0, 1], by the polynomial of degree 5 whose largest relative error is least among those with p(0) = 1 (8.3e-8;
// Remez), times a power of two. The relative error is below 1.5e-7. Below −126 it is 0, above 127 it is 2^127; on AVX-512, which has an instruction for the
// power, a denormal number or 0 there, and up to infinity.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

namespace pagemill::vec {

inline constexpr float kExp2Coefficients[] = {0.0018671333f, 0.009017023f, 0.055799916f, 0.24016444f, 0.6931513f, 1.0f};

/// One lane; with the bits that AVX2 gives.
inline float exp2_lane(float x) {
  x = x < 127.0f ? x : 127.0f;  // as the instructions do: the bound where x is NaN
  x = x > -127.0f ? x : -127.0f;
  const float whole = std::floor(x), r = x - whole;
  float p = kExp2Coefficients[0];
  for (int i = 1; i < 6; ++i) p = std::fma(p, r, kExp2Coefficients[i]);
  return p * std::bit_cast<float>((static_cast<int32_t>(whole) + 127) << 23);
}

namespace {

#if defined(__AVX2__)
[[gnu::always_inline]] inline __m256 exp2_lanes(__m256 x) {
  x = _mm256_max_ps(_mm256_min_ps(x, _mm256_set1_ps(127)), _mm256_set1_ps(-127));
  const __m256 whole = _mm256_floor_ps(x), r = _mm256_sub_ps(x, whole);
  __m256 p = _mm256_set1_ps(kExp2Coefficients[0]);
#pragma GCC unroll 8
  for (int i = 1; i < 6; ++i) p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(kExp2Coefficients[i]));
  const __m256i exponent = _mm256_add_epi32(_mm256_cvtps_epi32(whole), _mm256_set1_epi32(127));
  return _mm256_mul_ps(p, _mm256_castsi256_ps(_mm256_slli_epi32(exponent, 23)));
}
#endif

#if defined(__AVX512DQ__)
[[gnu::always_inline]] inline __m512 exp2_lanes(__m512 x) {
  const __m512 r = _mm512_reduce_ps(x, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
  __m512 p = _mm512_set1_ps(kExp2Coefficients[0]);
#pragma GCC unroll 8
  for (int i = 1; i < 6; ++i) p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(kExp2Coefficients[i]));
  return _mm512_scalef_ps(p, x);  // takes the whole part of x
}
#endif

}  // namespace
}  // namespace pagemill::vec
