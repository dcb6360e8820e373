// IEEE binary16 as the toolkit's header gives it, as far as kernels use it. Rounding is to nearest even.
#pragma once

#include "base/dtype.h"
#include "emulated_types.h"

struct alignas(2) __half_raw { unsigned short x; };
struct alignas(2) __half {
  unsigned short bits;
  __half() = default;
  __half(float value) : bits(pagemill::f32_to_f16(value)) {}
  __half(__half_raw raw) : bits(raw.x) {}
  operator float() const { return pagemill::f16_to_f32(bits); }
};
using half = __half;
struct alignas(4) __half2 {
  __half x, y;
  __half2() = default;
  __half2(__half low, __half high) : x(low), y(high) {}
};
using half2 = __half2;

inline float __half2float(__half x) { return x; }
inline __half __float2half(float x) { return x; }
inline __half __float2half_rn(float x) { return x; }
inline float2 __half22float2(__half2 x) { return {x.x, x.y}; }
inline __half2 __floats2half2_rn(float x, float y) { return {x, y}; }
inline __half2 __float22half2_rn(float2 x) { return {x.x, x.y}; }
inline __half2 __float2half2_rn(float x) { return {x, x}; }
inline __half2 __halves2half2(__half x, __half y) { return {x, y}; }
inline __half2 __half2half2(__half x) { return {x, x}; }
inline __half __low2half(__half2 x) { return x.x; }
inline __half __high2half(__half2 x) { return x.y; }
inline float __low2float(__half2 x) { return x.x; }
inline float __high2float(__half2 x) { return x.y; }
inline unsigned short __half_as_ushort(__half x) { return x.bits; }
inline __half __ushort_as_half(unsigned short x) { return __half_raw{x}; }
inline __half __hmul(__half a, __half b) { return float(a) * float(b); }
inline __half __hadd(__half a, __half b) { return float(a) + float(b); }
inline __half2 __hmul2(__half2 a, __half2 b) { return {__hmul(a.x, b.x), __hmul(a.y, b.y)}; }
inline __half2 __hadd2(__half2 a, __half2 b) { return {__hadd(a.x, b.x), __hadd(a.y, b.y)}; }
inline __half2 __hfma2(__half2 a, __half2 b, __half2 c) {
  return {float(a.x) * float(b.x) + float(c.x), float(a.y) * float(b.y) + float(c.y)};
}
