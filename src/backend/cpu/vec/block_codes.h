// Storing a block of 32 codes, for avx2.h and avx512.h alike. Include it only in files compiled for AVX2 or wider.
#pragma once

#include <immintrin.h>

#include <cstdint>

namespace pagemill::vec {
namespace {

/// The 32 bytes to `to`; the sums of the first 16 and of the others to sums[0] and sums[1].
inline void store_block(int8_t* to, __m256i codes, int32_t* sums) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), codes);
  // vpsadbw adds eight unsigned bytes: 128 more than the codes.
  const __m256i eights = _mm256_sad_epu8(_mm256_xor_si256(codes, _mm256_set1_epi8(-128)), _mm256_setzero_si256());
  const __m256i halves = _mm256_add_epi64(eights, _mm256_shuffle_epi32(eights, 0x4e));
  sums[0] = _mm256_cvtsi256_si32(halves) - 16 * 128;
  sums[1] = _mm_cvtsi128_si32(_mm256_extracti128_si256(halves, 1)) - 16 * 128;
}

}  // namespace
}  // namespace pagemill::vec
