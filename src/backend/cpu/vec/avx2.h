// Avx2 and AvxVnni: the vector type of plain.h in 256-bit registers. Include it only in files compiled for these instruction sets:
// the types are in an unnamed namespace so that nothing instantiated over them is shared with another file.
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

namespace pagemill::vec {
namespace {

struct Avx2 {
  static constexpr int kLanes = 8;
  static constexpr bool kVnni = false, kWholeSums = false;
  static constexpr int kPanelColumns = 4, kPairColumns = 4, kFloatColumns = 3, kFloatWideColumns = 6;
  static constexpr const char* kCompiledFor = "avx2";
  using I = __m256i;
  using F = __m256;

  static I load(const void* from) { return _mm256_loadu_si256(static_cast<const __m256i*>(from)); }
  static void store(void* to, I v) { _mm256_storeu_si256(static_cast<__m256i*>(to), v); }
  static I zero() { return _mm256_setzero_si256(); }
  static I set8(int value) { return _mm256_set1_epi8(static_cast<char>(value)); }
  static I set16(int value) { return _mm256_set1_epi16(static_cast<short>(value)); }
  static I set32(int value) { return _mm256_set1_epi32(value); }
  static I broadcast(const void* from) { return _mm256_castps_si256(_mm256_broadcast_ss(static_cast<const float*>(from))); }
  static I bit_and(I a, I b) { return _mm256_and_si256(a, b); }
  static I bit_or(I a, I b) { return _mm256_or_si256(a, b); }
  template <int By>
  static I shift16(I a) {
    if constexpr (By > 0) return _mm256_slli_epi16(a, By);
    if constexpr (By < 0) return _mm256_srli_epi16(a, -By);
    return a;
  }
  static I lookup(const uint8_t* table, I index) {
    return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(table))), index);
  }
  static I abs8(I a) { return _mm256_abs_epi8(a); }
  static I sign8(I a, I b) { return _mm256_sign_epi8(a, b); }
  static I mul_pairs(I u, I s) { return _mm256_maddubs_epi16(u, s); }
  static I add16(I a, I b) { return _mm256_add_epi16(a, b); }
  static I mul16(I a, I b) { return _mm256_mullo_epi16(a, b); }
  static I dot16(I a, I b) { return _mm256_madd_epi16(a, b); }
  static I add32(I a, I b) { return _mm256_add_epi32(a, b); }
  static I sub32(I a, I b) { return _mm256_sub_epi32(a, b); }
  template <int By>
  static I shift32_left(I a) {
    return _mm256_slli_epi32(a, By);
  }
  static I lanes_u8(const void* from) { return _mm256_cvtepu8_epi32(_mm_loadl_epi64(static_cast<const __m128i*>(from))); }
  static I lanes_i8(const void* from) { return _mm256_cvtepi8_epi32(_mm_loadl_epi64(static_cast<const __m128i*>(from))); }

  static F zero_f() { return _mm256_setzero_ps(); }
  static F set_f(float value) { return _mm256_set1_ps(value); }
  static F broadcast_f(const float* from) { return _mm256_broadcast_ss(from); }
  static F load_f(const void* from) { return _mm256_loadu_ps(static_cast<const float*>(from)); }
  static void store_f(void* to, F v) { _mm256_storeu_ps(static_cast<float*>(to), v); }
  static F add(F a, F b) { return _mm256_add_ps(a, b); }
  static F mul(F a, F b) { return _mm256_mul_ps(a, b); }
  static F div(F a, F b) { return _mm256_div_ps(a, b); }
  static F div_fast(F a, F b) { return div(a, b); }
  static F min(F a, F b) { return _mm256_min_ps(a, b); }
  static F max(F a, F b) { return _mm256_max_ps(a, b); }
  static F abs_f(F a) { return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), a); }
  static F max_of_each(const F (&a)[8]) {
    const auto half = [&](int i) { return max(_mm256_permute2f128_ps(a[i], a[i + 4], 0x20), _mm256_permute2f128_ps(a[i], a[i + 4], 0x31)); };
    const auto pairs = [](F b, F c) { return max(_mm256_unpacklo_ps(b, c), _mm256_unpackhi_ps(b, c)); };
    const F even = pairs(half(0), half(1)), odd = pairs(half(2), half(3));
    return max(_mm256_shuffle_ps(even, odd, 0x44), _mm256_shuffle_ps(even, odd, 0xee));
  }
  static F fma(F a, F b, F c) { return _mm256_fmadd_ps(a, b, c); }
  static F to_float(I a) { return _mm256_cvtepi32_ps(a); }
  static I to_int(F a) { return _mm256_cvtps_epi32(a); }
  static F as_float(I a) { return _mm256_castsi256_ps(a); }
  static I as_int(F a) { return _mm256_castps_si256(a); }
  static F lanes_f16(const void* from) { return _mm256_cvtph_ps(_mm_loadu_si128(static_cast<const __m128i*>(from))); }
  static F lanes_bf16(const void* from) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128(static_cast<const __m128i*>(from))), 16));
  }
  static I bytes_of(const I (&codes)[4]) {
    const I bytes = _mm256_packs_epi16(_mm256_packs_epi32(codes[0], codes[1]), _mm256_packs_epi32(codes[2], codes[3]));
    return _mm256_max_epi8(_mm256_permutevar8x32_epi32(bytes, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7)), set8(-127));
  }
  template <int>
  static void store_block(int8_t* to, I bytes) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), bytes);
  }
  static I sums_of_16(const I (&bytes)[4]) {
    const auto sums = [](I v) {  // in both halves of 16 bytes; vpsadbw adds eight unsigned bytes, 128 more than the codes
      const I eights = _mm256_sad_epu8(_mm256_xor_si256(v, set8(-128)), zero());
      return _mm256_add_epi64(eights, _mm256_shuffle_epi32(eights, 0x4e));
    };
    const I low = _mm256_or_si256(sums(bytes[0]), _mm256_slli_epi64(sums(bytes[1]), 32));
    const I high = _mm256_or_si256(sums(bytes[2]), _mm256_slli_epi64(sums(bytes[3]), 32));
    return sub32(_mm256_blend_epi32(low, high, 0xcc), set32(16 * 128));
  }
  static I swap_fours(I a) { return _mm256_permute2x128_si256(a, a, 0x01); }
  template <int Fours>
  static F fours_twice(F a) {
    return _mm256_permute2f128_ps(a, a, Fours == 0 ? 0x00 : 0x11);
  }
  static void transpose_fours(F (&a)[4]) {
    const F low01 = _mm256_unpacklo_ps(a[0], a[1]), high01 = _mm256_unpackhi_ps(a[0], a[1]);
    const F low23 = _mm256_unpacklo_ps(a[2], a[3]), high23 = _mm256_unpackhi_ps(a[2], a[3]);
    a[0] = _mm256_shuffle_ps(low01, low23, 0x44), a[1] = _mm256_shuffle_ps(low01, low23, 0xee);
    a[2] = _mm256_shuffle_ps(high01, high23, 0x44), a[3] = _mm256_shuffle_ps(high01, high23, 0xee);
  }
  template <int>
  static void store_four(void* to, F a) {
    _mm_storeu_ps(static_cast<float*>(to), _mm256_castps256_ps128(a));
  }
  // Not _mm_prefetch: GCC 12 takes a function that only prefetches for one without effect and drops calls of it.
  static void prefetch(const void* at) { asm volatile("prefetcht0 %0" : : "m"(*static_cast<const char*>(at))); }
  static void prefetch_second(const void* at) { asm volatile("prefetcht1 %0" : : "m"(*static_cast<const char*>(at))); }
};

#if defined(__AVXVNNI__)
struct AvxVnni : Avx2 {
  static constexpr bool kVnni = true;
  static constexpr const char* kCompiledFor = "avx_vnni";
  static I dot8(I acc, I u, const int8_t* s) { return _mm256_dpbusd_avx_epi32(acc, u, broadcast(s)); }
  static I add_dot16(I acc, I a, I b) { return _mm256_dpwssd_avx_epi32(acc, a, b); }
};
#endif

}  // namespace
}  // namespace pagemill::vec
