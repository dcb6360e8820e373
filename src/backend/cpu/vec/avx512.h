// Avx512 and Avx512Vnni: the vector type of plain.h in 512-bit registers. Include it only in files compiled for these instruction
// sets: the types are in an unnamed namespace so that nothing instantiated over them is shared with another file.
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "backend/cpu/vec/block_codes.h"

namespace pagemill::vec {
namespace {

struct Avx512 {
  static constexpr int kLanes = 16;
  static constexpr bool kVnni = false, kWholeSums = false;
  static constexpr int kPanelColumns = 8, kPairColumns = 8, kStreams = 4, kFloatColumns = 8, kFloatWideColumns = 12;
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
  static F div(F a, F b) { return _mm512_div_ps(a, b); }
  /// An estimate improved once, where vdivps occupies its port for 16 cycles.
  static F div_fast(F a, F b) {
    const F estimate = _mm512_rcp14_ps(b);
    return _mm512_mul_ps(a, _mm512_mul_ps(estimate, _mm512_fnmadd_ps(b, estimate, _mm512_set1_ps(2))));
  }
  static F min(F a, F b) { return _mm512_min_ps(a, b); }
  static F max(F a, F b) { return _mm512_max_ps(a, b); }
  static F abs_f(F a) { return _mm512_abs_ps(a); }
  static float reduce_max(F a) { return _mm512_reduce_max_ps(a); }
  static F max_of_each(const F (&a)[8]) {
    F halves[4];  // of a[i] and a[i + 4]: what is left of each vector, side by side
    for (int i = 0; i < 4; ++i) halves[i] = max(_mm512_shuffle_f32x4(a[i], a[i + 4], 0x44), _mm512_shuffle_f32x4(a[i], a[i + 4], 0xee));
    F quarters[2];  // pieces of four lanes: of a[i], a[i + 4], a[i + 2], a[i + 6]
    for (int i = 0; i < 2; ++i)
      quarters[i] = max(_mm512_shuffle_f32x4(halves[i], halves[i + 2], 0x88), _mm512_shuffle_f32x4(halves[i], halves[i + 2], 0xdd));
    const F pairs = max(_mm512_unpacklo_ps(quarters[0], quarters[1]), _mm512_unpackhi_ps(quarters[0], quarters[1]));
    const I order = _mm512_setr_epi32(0, 1, 8, 9, 4, 5, 12, 13, 0, 1, 8, 9, 4, 5, 12, 13);
    return _mm512_permutexvar_ps(order, max(pairs, _mm512_permute_ps(pairs, 0x4e)));
  }
  static F fma(F a, F b, F c) { return _mm512_fmadd_ps(a, b, c); }
  static F to_float(I a) { return _mm512_cvtepi32_ps(a); }
  static I to_int(F a) { return _mm512_cvtps_epi32(a); }
  static F as_float(I a) { return _mm512_castsi512_ps(a); }
  static I as_int(F a) { return _mm512_castps_si512(a); }
  static F lanes_f16(const void* from) { return _mm512_cvtph_ps(_mm256_loadu_si256(static_cast<const __m256i*>(from))); }
  static F lanes_bf16(const void* from) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256(static_cast<const __m256i*>(from))), 16));
  }
  static void store_codes(int8_t* to, const I (&codes)[2], int32_t* sums) {
    store_block(to, _mm256_set_m128i(_mm512_cvtsepi32_epi8(codes[1]), _mm512_cvtsepi32_epi8(codes[0])), sums);
  }
  // Not _mm_prefetch: GCC 12 takes a function that only prefetches for one without effect and drops calls of it.
  static void prefetch(const void* at) { asm volatile("prefetcht0 %0" : : "m"(*static_cast<const char*>(at))); }
  static void prefetch_second(const void* at) { asm volatile("prefetcht1 %0" : : "m"(*static_cast<const char*>(at))); }
};

#if defined(__AVX512VNNI__)
struct Avx512Vnni : Avx512 {
  static constexpr bool kVnni = true, kWholeSums = true;
  static constexpr const char* kCompiledFor = "avx512_vnni";
  /// Written out: GCC 12 loads s into a register first, an instruction more wherever it is used once or twice.
  static I dot8(I acc, I u, const int8_t* s) {
    asm("vpdpbusd %2%{1to16%}, %1, %0" : "+v"(acc) : "v"(u), "m"(*reinterpret_cast<const char(*)[4]>(s)));
    return acc;
  }
  static I add_dot16(I acc, I a, I b) { return _mm512_dpwssd_epi32(acc, a, b); }
  static F scale_whole(I a, F scale, const float* whole_scale) {
    return _mm512_fmsub_ps(_mm512_castsi512_ps(a), scale, _mm512_set1_ps(*whole_scale));
  }
};
#endif

}  // namespace
}  // namespace pagemill::vec
