// Avx512 and Avx512Vnni: the vector type of plain.h in 512-bit registers. Include it only in files compiled for these instruction
// sets: the types are in an unnamed namespace so that nothing instantiated over them is shared with another file.
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

namespace pagemill::vec {
namespace {

struct Avx512 {
  static constexpr int kLanes = 16;
  static constexpr bool kVnni = false;
  static constexpr int kPanelColumns = 8, kPairColumns = 8, kFloatColumns = 8, kFloatWideColumns = 12;
  static constexpr const char* kCompiledFor = "avx512";
  using I = __m512i;
  using F = __m512;

  static I load(const void* from) { return _mm512_loadu_si512(from); }
  static void store(void* to, I v) { _mm512_storeu_si512(to, v); }
  static I zero() { return _mm512_setzero_si512(); }
  static I set8(int value) { return _mm512_set1_epi8(static_cast<char>(value)); }
  static I set16(int value) { return _mm512_set1_epi16(static_cast<short>(value)); }
  static I set32(int value) { return _mm512_set1_epi32(value); }
  static I broadcast(const void* from) {
    int value;
    __builtin_memcpy(&value, from, sizeof value);
    return _mm512_set1_epi32(value);
  }
  static I bit_and(I a, I b) { return _mm512_and_si512(a, b); }
  static I bit_or(I a, I b) { return _mm512_or_si512(a, b); }
  template <int By>
  static I shift16(I a) {
    if constexpr (By > 0) return _mm512_slli_epi16(a, By);
    if constexpr (By < 0) return _mm512_srli_epi16(a, -By);
    return a;
  }
  static I lookup(const uint8_t* table, I index) {
    return _mm512_shuffle_epi8(_mm512_broadcast_i32x4(_mm_loadu_si128(reinterpret_cast<const __m128i*>(table))), index);
  }
  static I abs8(I a) { return _mm512_abs_epi8(a); }
  static I sign8(I a, I b) {
    const I negated = _mm512_mask_sub_epi8(a, _mm512_movepi8_mask(b), _mm512_setzero_si512(), a);
    return _mm512_maskz_mov_epi8(_mm512_test_epi8_mask(b, b), negated);
  }
  static I mul_pairs(I u, I s) { return _mm512_maddubs_epi16(u, s); }
  static I add16(I a, I b) { return _mm512_add_epi16(a, b); }
  static I mul16(I a, I b) { return _mm512_mullo_epi16(a, b); }
  static I dot16(I a, I b) { return _mm512_madd_epi16(a, b); }
  static I add32(I a, I b) { return _mm512_add_epi32(a, b); }
  template <int By>
  static I shift32_left(I a) {
    return _mm512_slli_epi32(a, By);
  }
  template <int By>
  static I shift32_right(I a) {
    return _mm512_srli_epi32(a, By);
  }
  static I lanes_u8(const void* from) { return _mm512_cvtepu8_epi32(_mm_loadu_si128(static_cast<const __m128i*>(from))); }
  static I lanes_i8(const void* from) { return _mm512_cvtepi8_epi32(_mm_loadu_si128(static_cast<const __m128i*>(from))); }

  static F zero_f() { return _mm512_setzero_ps(); }
  static F set_f(float value) { return _mm512_set1_ps(value); }
  static F broadcast_f(const float* from) { return _mm512_set1_ps(*from); }
  static F load_f(const void* from) { return _mm512_loadu_ps(from); }
  static void store_f(void* to, F v) { _mm512_storeu_ps(to, v); }
  static F add(F a, F b) { return _mm512_add_ps(a, b); }
  static F mul(F a, F b) { return _mm512_mul_ps(a, b); }
  /// a / b to some 1e-7 relative: an estimate improved once, where vdivps occupies its port for 16 cycles.
  static F div(F a, F b) {
    const F estimate = _mm512_rcp14_ps(b);
    return _mm512_mul_ps(a, _mm512_mul_ps(estimate, _mm512_fnmadd_ps(b, estimate, _mm512_set1_ps(2))));
  }
  static F min(F a, F b) { return _mm512_min_ps(a, b); }
  static F max(F a, F b) { return _mm512_max_ps(a, b); }
  static F abs_f(F a) { return _mm512_abs_ps(a); }
  static float reduce_max(F a) { return _mm512_reduce_max_ps(a); }
  static F fma(F a, F b, F c) { return _mm512_fmadd_ps(a, b, c); }
  static F to_float(I a) { return _mm512_cvtepi32_ps(a); }
  static I to_int(F a) { return _mm512_cvtps_epi32(a); }
  static F as_float(I a) { return _mm512_castsi512_ps(a); }
  static F lanes_f16(const void* from) { return _mm512_cvtph_ps(_mm256_loadu_si256(static_cast<const __m256i*>(from))); }
  static F lanes_bf16(const void* from) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256(static_cast<const __m256i*>(from))), 16));
  }
  static int store_i8(void* to, I a) {
    _mm_storeu_si128(static_cast<__m128i*>(to), _mm512_cvtsepi32_epi8(a));
    return _mm512_reduce_add_epi32(a);
  }
  // Not _mm_prefetch: GCC 12 takes a function that only prefetches for one without effect and drops calls of it.
  static void prefetch(const void* at) { asm volatile("prefetcht0 %0" : : "m"(*static_cast<const char*>(at))); }
};

#if defined(__AVX512VNNI__)
struct Avx512Vnni : Avx512 {
  static constexpr bool kVnni = true;
  static constexpr const char* kCompiledFor = "avx512_vnni";
  static I dot8(I acc, I u, I s) { return _mm512_dpbusd_epi32(acc, u, s); }
};
#endif

}  // namespace
}  // namespace pagemill::vec
