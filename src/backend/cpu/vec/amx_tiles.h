// AmxTiles: the tile type of tile_config.h as Intel AMX's instructions. A program may use them where amx_usable() (cpu_features.h).
//
// Inline assembly instead of the compiler's intrinsics: those of GCC 12 take the register's number as a token, which a template's
// argument is not, and do not say that a load reads memory.
#pragma once

#include <cstdint>

#if defined(__AVX512BF16__)
#include <immintrin.h>
#endif

#include "backend/cpu/vec/tile_config.h"

namespace pagemill::vec {
namespace {

struct AmxTiles {
  static constexpr const char* kCompiledFor = "amx";

  [[gnu::always_inline]] static inline void configure(const TileConfig& config) { asm volatile("ldtilecfg %0" : : "m"(config)); }
  [[gnu::always_inline]] static inline void release() { asm volatile("tilerelease"); }

  template <int T>
  [[gnu::always_inline]] static inline void zero() {
    asm volatile("tilezero %%tmm%c0" : : "i"(T));
  }
  template <int T>
  [[gnu::always_inline]] static inline void load(const void* from, int64_t stride) {
    asm volatile("tileloadd (%0,%1,1), %%tmm%c2" : : "r"(from), "r"(stride), "i"(T) : "memory");
  }
  template <int T>
  [[gnu::always_inline]] static inline void store(void* to, int64_t stride) {
    asm volatile("tilestored %%tmm%c2, (%0,%1,1)" : : "r"(to), "r"(stride), "i"(T) : "memory");
  }
  // In this syntax the operands stand in reverse: b, a, c.
  template <int C, int A, int B>
  [[gnu::always_inline]] static inline void dot_su8() {
    asm volatile("tdpbsud %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(C), "i"(A), "i"(B));
  }
  template <int C, int A, int B>
  [[gnu::always_inline]] static inline void dot_bf16() {
    asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(C), "i"(A), "i"(B));
  }
#if defined(__AVX512BF16__)
  [[gnu::always_inline]] static inline void round_bf16(const float* x, void* to) {
    const __m256bh rounded = _mm512_cvtneps_pbh(_mm512_loadu_ps(x));
    __builtin_memcpy(to, &rounded, sizeof rounded);
  }
  [[gnu::always_inline]] static inline void round_pairs(__m512 even, __m512 odd, void* to) {
    const __m512bh rounded = _mm512_cvtne2ps_pbh(odd, even);  // all of even, then all of odd
    __m512i halves;
    __builtin_memcpy(&halves, &rounded, sizeof halves);
    alignas(64) static constexpr uint16_t kOrder[32] = {0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
    _mm512_storeu_si512(to, _mm512_permutexvar_epi16(_mm512_load_si512(kOrder), halves));
  }
#endif
};

}  // namespace
}  // namespace pagemill::vec
