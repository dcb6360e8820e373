// Plain: the small vector type of the matrix kernels in portable C++, of any width and with or without vpdpbusd's arithmetic.
// So the packing, layout and loop logic of every instruction set runs, and is tested, on every machine.
//
// A vector type V has kLanes 32-bit lanes, I (integers: 4 · kLanes bytes) and F (kLanes floats), and the operations below; avx2.h
// and avx512.h name what instruction each one is. Where the hardware saturates (mul_pairs), so does this one: a kernel
// that could saturate fails its test here too. F's products and sums are rounded one by one (no fused multiply-add).
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <numeric>
#include <utility>

#include "base/dtype.h"

namespace pagemill::vec {

template <int Lanes, bool Vnni>
struct Plain {
  static constexpr int kLanes = Lanes;
  static constexpr bool kVnni = Vnni, kWholeSums = Vnni && Lanes == 16;
  static constexpr int kPanelColumns = Lanes / 2, kPairColumns = Lanes / 2, kFloatColumns = 3, kFloatWideColumns = 6;
  static constexpr const char* kCompiledFor = "baseline";

  struct I {
    uint8_t byte[4 * Lanes];
  };
  struct F {
    float lane[Lanes];
  };

  // --- integers ---------------------------------------------------------------------------------------------------
  static I load(const void* from) {
    I v;
    std::memcpy(&v, from, sizeof v);
    return v;
  }
  static void store(void* to, const I& v) { std::memcpy(to, &v, sizeof v); }
  static I zero() { return I{}; }
  static I set8(int value) {
    I v;
    std::memset(&v, value, sizeof v);
    return v;
  }
  static I set16(int value) {
    return map16([value](int) { return value; });
  }
  static I set32(int value) {
    return map32([value](int) { return value; });
  }
  /// The same four bytes in every lane.
  static I broadcast(const void* from) {
    I v;
    for (int i = 0; i < Lanes; ++i) std::memcpy(v.byte + 4 * i, from, 4);
    return v;
  }
  static I bit_and(const I& a, const I& b) {
    return map8([&](int i) { return a.byte[i] & b.byte[i]; });
  }
  static I bit_or(const I& a, const I& b) {
    return map8([&](int i) { return a.byte[i] | b.byte[i]; });
  }
  /// 16-bit lanes shifted: left where By > 0, right (zeros in) where By < 0.
  template <int By>
  static I shift16(const I& a) {
    return map16([&](int i) {
      const unsigned value = static_cast<uint16_t>(get16(a, i));
      return static_cast<int>(static_cast<uint16_t>(By >= 0 ? value << (By >= 0 ? By : 0) : value >> (By < 0 ? -By : 0)));
    });
  }
  /// Each byte's low four bits as an index into 16 bytes.
  static I lookup(const uint8_t* table, const I& index) {
    return map8([&](int i) { return table[index.byte[i] & 15]; });
  }
  static I abs8(const I& a) {
    return map8([&](int i) { return std::abs(static_cast<int>(static_cast<int8_t>(a.byte[i]))); });
  }
  /// a, negated where b < 0, 0 where b = 0; -128 stays as it is.
  static I sign8(const I& a, const I& b) {
    return map8([&](int i) {
      const int value = static_cast<int8_t>(a.byte[i]), by = static_cast<int8_t>(b.byte[i]);
      return by < 0 ? -value : by == 0 ? 0 : value;
    });
  }
  /// 16-bit lanes: u[2i] · s[2i] + u[2i+1] · s[2i+1], saturated; u unsigned bytes, s signed ones.
  static I mul_pairs(const I& u, const I& s) {
    return map16([&](int i) {
      const int sum = u.byte[2 * i] * static_cast<int8_t>(s.byte[2 * i]) + u.byte[2 * i + 1] * static_cast<int8_t>(s.byte[2 * i + 1]);
      return sum > 32767 ? 32767 : sum < -32768 ? -32768 : sum;
    });
  }
  static I add16(const I& a, const I& b) {
    return map16([&](int i) { return get16(a, i) + get16(b, i); });
  }
  static I mul16(const I& a, const I& b) {
    return map16([&](int i) { return get16(a, i) * get16(b, i); });
  }
  /// 32-bit lanes: the two 16-bit halves multiplied with b's and added.
  static I dot16(const I& a, const I& b) {
    return map32([&](int i) { return get16(a, 2 * i) * get16(b, 2 * i) + get16(a, 2 * i + 1) * get16(b, 2 * i + 1); });
  }
  static I sub32(const I& a, const I& b) {
    return map32([&](int i) { return get32(a, i) - get32(b, i); });
  }
  static I add32(const I& a, const I& b) {
    return map32([&](int i) { return static_cast<int32_t>(static_cast<uint32_t>(get32(a, i)) + static_cast<uint32_t>(get32(b, i))); });
  }
  template <int By>
  static I shift32_left(const I& a) {
    return map32([&](int i) { return static_cast<int32_t>(static_cast<uint32_t>(get32(a, i)) << By); });
  }
  /// Zeros come in.
  template <int By>
  static I shift32_right(const I& a) {
    return map32([&](int i) { return static_cast<int32_t>(static_cast<uint32_t>(get32(a, i)) >> By); });
  }
  /// acc + dot16(a, b)
  static I add_dot16(const I& acc, const I& a, const I& b) { return add32(acc, dot16(a, b)); }
  /// acc + the four products of each lane's bytes with the four signed ones at s.
  static I dot8(const I& acc, const I& u, const int8_t* s) {
    return map32([&](int i) {
      int sum = get32(acc, i);
      for (int j = 0; j < 4; ++j) sum += u.byte[4 * i + j] * s[j];
      return sum;
    });
  }
  /// kLanes bytes as 32-bit integers.
  static I lanes_u8(const void* from) {
    const auto* bytes = static_cast<const uint8_t*>(from);
    return map32([&](int i) { return bytes[i]; });
  }
  static I lanes_i8(const void* from) {
    const auto* bytes = static_cast<const int8_t*>(from);
    return map32([&](int i) { return bytes[i]; });
  }

  // --- floats -----------------------------------------------------------------------------------------------------
  static F zero_f() { return F{}; }
  static F set_f(float value) {
    return map_f([value](int) { return value; });
  }
  static F broadcast_f(const float* from) { return set_f(*from); }
  static F load_f(const void* from) {
    F v;
    std::memcpy(&v, from, sizeof v);
    return v;
  }
  static void store_f(void* to, const F& v) { std::memcpy(to, &v, sizeof v); }
  static F add(const F& a, const F& b) {
    return map_f([&](int i) { return a.lane[i] + b.lane[i]; });
  }
  static F sub(const F& a, const F& b) {
    return map_f([&](int i) { return a.lane[i] - b.lane[i]; });
  }
  static F mul(const F& a, const F& b) {
    return map_f([&](int i) { return a.lane[i] * b.lane[i]; });
  }
  static F div(const F& a, const F& b) {
    return map_f([&](int i) { return a.lane[i] / b.lane[i]; });
  }
  /// To some 1e-7 relative; its last bits may be another CPU's.
  static F div_fast(const F& a, const F& b) { return div(a, b); }
  static F min(const F& a, const F& b) {
    return map_f([&](int i) { return a.lane[i] < b.lane[i] ? a.lane[i] : b.lane[i]; });
  }
  static F max(const F& a, const F& b) {
    return map_f([&](int i) { return a.lane[i] > b.lane[i] ? a.lane[i] : b.lane[i]; });
  }
  static F abs_f(const F& a) {
    return map_f([&](int i) { return std::fabs(a.lane[i]); });
  }
  /// Lane i of the first eight: the largest of a[i].
  static F max_of_each(const F (&a)[8]) {
    return map_f([&](int i) { return *std::max_element(a[i % 8].lane, a[i % 8].lane + Lanes); });
  }
  /// a · b + c
  static F fma(const F& a, const F& b, const F& c) {
    return map_f([&](int i) { return a.lane[i] * b.lane[i] + c.lane[i]; });
  }
  /// a's bits as floats · scale - whole_scale, rounded once: the numbers above kWholeBits (linear/quantized_rows.h) times scale.
  static F scale_whole(const I& a, const F& scale, const F& whole_scale) {
    const F whole = as_float(a);
    return map_f([&](int i) { return static_cast<float>(static_cast<double>(whole.lane[i]) * scale.lane[i] - whole_scale.lane[i]); });
  }
  static F to_float(const I& a) {
    return map_f([&](int i) { return static_cast<float>(get32(a, i)); });
  }
  /// To nearest, ties to even; the smallest integer for what none is near to.
  static I to_int(const F& a) {
    return map32([&](int i) { return std::fabs(a.lane[i]) < 0x1p31f ? static_cast<int32_t>(std::nearbyint(a.lane[i])) : INT32_MIN; });
  }
  static F as_float(const I& a) {
    F v;
    std::memcpy(&v, &a, sizeof v);
    return v;
  }
  static I as_int(const F& a) {
    I v;
    std::memcpy(&v, &a, sizeof v);
    return v;
  }
  static F lanes_f16(const void* from) {
    return map_f([&](int i) { return f16_to_f32(half(from, i)); });
  }
  static F lanes_bf16(const void* from) {
    return map_f([&](int i) { return bf16_to_f32(half(from, i)); });
  }

  // --- rounding to int8: of eight blocks of 32, a vector of bytes has Lanes / 8, blocks b and b + 4 --------------------
  /// 4 · Lanes integers as bytes, the nearest of -127 … 127.
  static I bytes_of(const I (&codes)[4]) {
    return map8([&](int i) { return std::clamp(get32(codes[i / Lanes], i % Lanes), -127, 127); });
  }
  /// The vector's block number Block, 32 bytes.
  template <int Block>
  static void store_block(int8_t* to, const I& bytes) {
    std::memcpy(to, bytes.byte + 32 * Block, 32);
  }
  /// Lane 4n + i: the sum of bytes[i]'s bytes 16n … 16n + 15, which are signed.
  static I sums_of_16(const I (&bytes)[4]) {
    return map32([&](int lane) {
      const uint8_t* from = bytes[lane % 4].byte + lane / 4 * 16;
      return std::accumulate(from, from + 16, 0, [](int sum, uint8_t byte) { return sum + static_cast<int8_t>(byte); });
    });
  }
  /// Lanes 4n … 4n + 3 change places with the next four, n even.
  static I swap_fours(const I& a) {
    return map32([&](int i) { return get32(a, i ^ 4); });
  }
  /// Of eight numbers four, twice, from the one numbered 4 · Fours on, and what follows them likewise.
  template <int Fours>
  static F fours_twice(const F& a) {
    return map_f([&](int i) { return a.lane[4 * Fours + i / 8 * 4 + i % 4]; });
  }
  /// In each four lanes: a[i]'s lane j and a[j]'s lane i change places.
  static void transpose_fours(F (&a)[4]) {
    for (int i = 0; i < 4; ++i)
      for (int j = 0; j < i; ++j)
        for (int lane = 0; lane < Lanes; lane += 4) std::swap(a[i].lane[lane + j], a[j].lane[lane + i]);
  }
  /// Lanes 4 · Four … 4 · Four + 3.
  template <int Four>
  static void store_four(void* to, const F& a) {
    std::memcpy(to, a.lane + 4 * Four, 16);
  }
  /// A line to the first-level cache; to the second.
  static void prefetch(const void*) {}
  static void prefetch_second(const void*) {}

 private:
  template <class Value>
  static I map8(Value value) {
    I v;
    for (int i = 0; i < 4 * Lanes; ++i) v.byte[i] = static_cast<uint8_t>(value(i));
    return v;
  }
  template <class Value>
  static I map16(Value value) {
    I v;
    for (int i = 0; i < 2 * Lanes; ++i) {
      const auto lane = static_cast<int16_t>(value(i));
      std::memcpy(v.byte + 2 * i, &lane, 2);
    }
    return v;
  }
  template <class Value>
  static I map32(Value value) {
    I v;
    for (int i = 0; i < Lanes; ++i) {
      const int32_t lane = value(i);
      std::memcpy(v.byte + 4 * i, &lane, 4);
    }
    return v;
  }
  template <class Value>
  static F map_f(Value value) {
    F v;
    for (int i = 0; i < Lanes; ++i) v.lane[i] = value(i);
    return v;
  }
  static int get16(const I& v, int i) {
    int16_t lane;
    std::memcpy(&lane, v.byte + 2 * i, 2);
    return lane;
  }
  static int32_t get32(const I& v, int i) {
    int32_t lane;
    std::memcpy(&lane, v.byte + 4 * i, 4);
    return lane;
  }
  static uint16_t half(const void* from, int i) {
    uint16_t bits;
    std::memcpy(&bits, static_cast<const std::byte*>(from) + 2 * i, 2);
    return bits;
  }
};

}  // namespace pagemill::vec
