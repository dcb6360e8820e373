// Avx512Bf16: AVX-512 BF16's instructions, for the vector types of avx512.h. Include it only in files compiled for them.
#pragma once

#include <immintrin.h>

#include <cstdint>

namespace pagemill::vec {
namespace {

struct Avx512Bf16 {
  /// acc += a's odd elements · b's, then a's even ones · b's; denormal numbers count as 0 (Intel SDM, VDPBF16PS). Bits: a vector of any type.
  template <class Bits>
  [[gnu::always_inline]] static inline __m512 dot_pairs(__m512 acc, Bits a, Bits b) {
    asm("vdpbf16ps %2, %1, %0" : "+v"(acc) : "v"(a), "v"(b));
    return acc;
  }
  /// 16 f32 → bf16, to nearest even, denormal ones to 0.
  [[gnu::always_inline]] static inline void round_bf16(const float* x, void* to) {
    const __m256bh rounded = _mm512_cvtneps_pbh(_mm512_loadu_ps(x));
    __builtin_memcpy(to, &rounded, sizeof rounded);
  }
  /// 32 f32 likewise, past the caches where Streamed (stream_out.h); `to` is 64-byte aligned.
  template <bool Streamed>
  [[gnu::always_inline]] static inline void round_row(const float* x, void* to) {
    const __m512bh rounded = _mm512_cvtne2ps_pbh(_mm512_loadu_ps(x + 16), _mm512_loadu_ps(x));
    __m512i bits;
    __builtin_memcpy(&bits, &rounded, sizeof bits);
    if constexpr (Streamed) _mm512_stream_si512(static_cast<__m512i*>(to), bits);
    else _mm512_store_si512(to, bits);
  }
  /// Two vectors of 16 f32 → 16 pairs of bf16, rounded likewise.
  [[gnu::always_inline]] static inline void round_pairs(__m512 even, __m512 odd, void* to) {
    const __m512bh rounded = _mm512_cvtne2ps_pbh(odd, even);  // all of even, then all of odd
    __m512i halves;
    __builtin_memcpy(&halves, &rounded, sizeof halves);
    alignas(64) static constexpr uint16_t kOrder[32] = {0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
    _mm512_storeu_si512(to, _mm512_permutexvar_epi16(_mm512_load_si512(kOrder), halves));
  }
};

}  // namespace
}  // namespace pagemill::vec
