// AmxTiles: the tile type of tile_config.h as Intel AMX's instructions. A program may use them where amx_usable() (cpu_features.h).
//
// Inline assembly instead of the compiler's intrinsics: those of GCC 12 take the register's number as a token, which a template's
// argument is not, and do not say that a load reads memory.
#pragma once

#include <cstdint>

#if defined(__AVX512BF16__)
#include "backend/cpu/vec/avx512_bf16.h"
#endif
#include "backend/cpu/vec/tile_config.h"

namespace pagemill::vec {
namespace {

struct AmxTiles
#if defined(__AVX512BF16__)
    : Avx512Bf16
#endif
{
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
};

}  // namespace
}  // namespace pagemill::vec
