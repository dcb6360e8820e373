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
  static constexpr bool kVnni = false, kWholeSums = false;
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
  static I sub32(I a, I b) { return _mm512_sub_epi32(a, b); }
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
  static F sub(F a, F b) { return _mm512_sub_ps(a, b); }
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
  static F max_of_each(const F (&a)[8]) {
    const auto half = [&](int i) { return max(_mm512_shuffle_f32x4(a[i], a[i + 4], 0x44), _mm512_shuffle_f32x4(a[i], a[i + 4], 0xee)); };
    const auto quarter = [](F b, F c) { return max(_mm512_shuffle_f32x4(b, c, 0x88), _mm512_shuffle_f32x4(b, c, 0xdd)); };
    const F quarters[2] = {quarter(half(0), half(2)), quarter(half(1), half(3))};  // fours of lanes: of a[i], a[i + 4], a[i + 2], a[i + 6]
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
  static I bytes_of(const I (&codes)[4]) {
    const I bytes = _mm512_packs_epi16(_mm512_packs_epi32(codes[0], codes[1]), _mm512_packs_epi32(codes[2], codes[3]));
    const I order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    return _mm512_max_epi8(_mm512_permutexvar_epi32(order, bytes), set8(-127));
  }
  template <int Block>
  static void store_block(int8_t* to, I bytes) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), Block == 0 ? _mm512_castsi512_si256(bytes) : _mm512_extracti64x4_epi64(bytes, 1));
  }
  static I sums_of_16(const I (&bytes)[4]) {
    const auto sums = [](I v) {  // in both halves of 16 bytes; vpsadbw adds eight unsigned bytes, 128 more than the codes
      const I eights = _mm512_sad_epu8(_mm512_xor_si512(v, set8(-128)), zero());
      return _mm512_add_epi64(eights, _mm512_shuffle_epi32(eights, _MM_PERM_BADC));
    };
    const I low = _mm512_or_si512(sums(bytes[0]), _mm512_slli_epi64(sums(bytes[1]), 32));
    const I high = _mm512_or_si512(sums(bytes[2]), _mm512_slli_epi64(sums(bytes[3]), 32));
    return sub32(_mm512_mask_blend_epi32(0xcccc, low, high), set32(16 * 128));
  }
  static I swap_fours(I a) { return _mm512_shuffle_i32x4(a, a, 0xb1); }
  template <int>
  static F fours_twice(F a) {
    return _mm512_shuffle_f32x4(a, a, 0x50);
  }
  static void transpose_fours(F (&a)[4]) {
    const F low01 = _mm512_unpacklo_ps(a[0], a[1]), high01 = _mm512_unpackhi_ps(a[0], a[1]);
    const F low23 = _mm512_unpacklo_ps(a[2], a[3]), high23 = _mm512_unpackhi_ps(a[2], a[3]);
    a[0] = _mm512_shuffle_ps(low01, low23, 0x44), a[1] = _mm512_shuffle_ps(low01, low23, 0xee);
    a[2] = _mm512_shuffle_ps(high01, high23, 0x44), a[3] = _mm512_shuffle_ps(high01, high23, 0xee);
  }
  template <int Four>
  static void store_four(void* to, F a) {
    _mm_storeu_ps(static_cast<float*>(to), Four == 0 ? _mm512_castps512_ps128(a) : _mm512_extractf32x4_ps(a, Four));
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
  static F scale_whole(I a, F scale, F whole_scale) { return _mm512_fmsub_ps(_mm512_castsi512_ps(a), scale, whole_scale); }
};
#endif

}  // namespace
}  // namespace pagemill::vec
