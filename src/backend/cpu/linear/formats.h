// How quantised weights lie in a packed group, and how they become operands: written once over a vector type V (vec/plain.h).
//
// A group holds V::kLanes output rows: [header][blocks of 32 elements along k], each part 64-byte aligned.
//   A "quad" is a vector of kLanes · 4 bytes: elements 4j … 4j+3 of every row; a block has quads 0 … 7. Codes are unsigned.
//   Block, by Bits (each unit a vector of 4 · kLanes bytes):
//     u4: 4 of low nibble = quad j, high nibble = quad j + 4
//     u5: those, then 1 with bit j of each byte = bit 4 of quad j
//     u6: those, then 2 with bits 2f, 2f+1 of vector h = bits 4, 5 of quad 4h + f
//     u2: 2 with bits 2f, 2f+1 of vector h = quad 4h + f;  u3: those, then 1 with bit j = bit 2 of quad j
//     s8: 8, two's complement; with +128 where V has vpdpbusd, whose left operand is unsigned.  iq4: as u4, looked up
//   Header, by Scales:
//     d32:  per block {d f16 [lanes]}                         value = d · (code − zero)
//     dm32: per block {d, m f16 [lanes]}                      value = d · code + m
//     k32:  per 256 {d, dmin f16 [lanes], 8 × {scale, min u8 [lanes]}}    value = d · scale · code − dmin · min
//     k16:  per 256 {d f16 [lanes], 16 × {scale i8 [lanes]}}              value = d · scale · (code − zero)
//     k16m: per 256 {d, dmin f16 [lanes], 16 × {scale | min << 4 [lanes]}}
// What a file stores is kept to the bit; only the scales of Q4_K, Q5_K (12 → 16 bytes per 256) and Q3_K (12 → 16) grow.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>

#include "backend/cpu/linear/quantized_rows.h"
#include "base/dtype.h"
#include "base/quant_blocks.h"

// The tiles rely on everything being inlined; kernels_plain.cpp, which would take minutes to compile so, defines it as nothing.
#ifndef PM_INLINE
#define PM_INLINE __attribute__((always_inline))
#endif

namespace pagemill::linear_detail {

enum class Bits { u2, u3, u4, u5, u6, s8, iq4 };
enum class Scales { d32, dm32, k32, k16, k16m };

template <DType Type, Bits B, Scales S, int Zero>
struct Format {
  static constexpr DType dtype = Type;
  static constexpr Bits bits = B;
  static constexpr Scales scales = S;
  static constexpr int zero = Zero;
  static constexpr bool super = S == Scales::k32 || S == Scales::k16 || S == Scales::k16m;
  static constexpr bool halves = S == Scales::k16 || S == Scales::k16m;  // a scale per 16
  static constexpr int vectors = B == Bits::u2 ? 2 : B == Bits::u3 ? 3 : B == Bits::u5 ? 5 : B == Bits::u6 ? 6 : B == Bits::s8 ? 8 : 4;
};
using Q4_0 = Format<DType::q4_0, Bits::u4, Scales::d32, 8>;
using Q4_1 = Format<DType::q4_1, Bits::u4, Scales::dm32, 0>;
using Q5_0 = Format<DType::q5_0, Bits::u5, Scales::d32, 16>;
using Q5_1 = Format<DType::q5_1, Bits::u5, Scales::dm32, 0>;
using Q8_0 = Format<DType::q8_0, Bits::s8, Scales::d32, 0>;
using Q2_K = Format<DType::q2_k, Bits::u2, Scales::k16m, 0>;
using Q3_K = Format<DType::q3_k, Bits::u3, Scales::k16, 4>;
using Q4_K = Format<DType::q4_k, Bits::u4, Scales::k32, 0>;
using Q5_K = Format<DType::q5_k, Bits::u5, Scales::k32, 0>;
using Q6_K = Format<DType::q6_k, Bits::u6, Scales::k16, 32>;
using Iq4Nl = Format<DType::iq4_nl, Bits::iq4, Scales::d32, 0>;

/// body(std::integral_constant<int, 0>{}), … 1, … N-1: indices are constants before the optimiser starts, so that small arrays of
/// vectors become registers (GCC 12 leaves them in memory when it unrolls a loop itself).
template <int N, class Body>
PM_INLINE inline void unroll(Body&& body) {
  [&]<int... Index>(std::integer_sequence<int, Index...>) PM_INLINE { (body(std::integral_constant<int, Index>{}), ...); }
  (std::make_integer_sequence<int, N>{});
}

/// Bytes that the kernels of few rows ask for ahead of what they multiply, all streams together: a block's arithmetic fills the window in which a core
/// looks ahead by itself, so memory would be waited for. They go to the second-level cache, for far fewer lines can be under way to the first, and from
/// there to the first kStreamNear bytes ahead in each stream.
inline constexpr size_t kStreamAhead = 8192, kStreamNear = 512;

constexpr size_t align64(size_t bytes) { return (bytes + 63) / 64 * 64; }

template <class V, class Fmt>
struct Layout {
  static constexpr int kLanes = V::kLanes;
  static constexpr size_t kBlockBytes = size_t{4} * V::kLanes * Fmt::vectors;
  /// One entry of the header: of a block of 32, or of 256 for the K types.
  static constexpr size_t kEntryBytes = static_cast<size_t>(V::kLanes) * (Fmt::scales == Scales::d32    ? 2
                                                                           : Fmt::scales == Scales::dm32 ? 4
                                                                           : Fmt::scales == Scales::k16  ? 18
                                                                                                         : 20);
  static constexpr size_t header_bytes(int64_t in) {
    return align64(static_cast<size_t>(in / (Fmt::super ? 256 : 32)) * kEntryBytes);
  }
  static constexpr size_t group_bytes(int64_t in) { return align64(header_bytes(in) + static_cast<size_t>(in / 32) * kBlockBytes); }
};

/// -128 … 127 → 0 … 255 where V multiplies unsigned bytes with any signed ones.
template <class V>
constexpr int signed_bias() {
  return V::kVnni ? 128 : 0;
}

/// How far 16-bit sums of pairs go before they must be widened: quads that may be added. |x| ≤ 127, so a pair of codes up to c
/// reaches 2 · 127 · c: 15 → 3810 (eight: 30480), 31 → 7874 (four: 31496), 63 → 16002 (two: 32004); 8-bit ones fit once,
/// and only as magnitudes ≤ 128 with the sign moved to x (32512).
constexpr int quads_per_widening(Bits bits) {
  switch (bits) {
    case Bits::u2:
    case Bits::u3:
    case Bits::u4: return 8;
    case Bits::u5: return 4;
    case Bits::u6: return 2;
    case Bits::s8:
    case Bits::iq4: return 1;
  }
  return 1;
}
constexpr bool is_signed(Bits bits) { return bits == Bits::s8 || bits == Bits::iq4; }

/// Quads of one packed block.
template <class V, Bits B>
struct PackedQuads {
  using I = typename V::I;
  static constexpr int kVector = 4 * V::kLanes;

  template <int J>
  PM_INLINE static I quad(const std::byte* q) {
    if constexpr (B == Bits::s8) return V::load(q + J * kVector);
    if constexpr (B == Bits::u2 || B == Bits::u3) {
      I code = V::bit_and(V::template shift16<-2 * (J % 4)>(V::load(q + J / 4 * kVector)), V::set8(3));
      if constexpr (B == Bits::u3) code = V::bit_or(code, high_bits<J, 2, 1>(q + 2 * kVector));
      return code;
    }
    if constexpr (B == Bits::u4 || B == Bits::u5 || B == Bits::u6 || B == Bits::iq4) {
      I code = V::bit_and(V::template shift16<J < 4 ? 0 : -4>(V::load(q + J % 4 * kVector)), V::set8(15));
      if constexpr (B == Bits::u5) code = V::bit_or(code, high_bits<J, 4, 1>(q + 4 * kVector));
      if constexpr (B == Bits::u6) code = V::bit_or(code, high_bits<J % 4 * 2, 4, 3>(q + (4 + J / 4) * kVector));
      if constexpr (B == Bits::iq4) code = V::lookup(kIq4.value, code);
      return code;
    }
  }

 private:
  /// Bits From, … of each byte, moved to bit To; Mask says how many.
  template <int From, int To, int Mask>
  PM_INLINE static I high_bits(const std::byte* at) {
    return V::bit_and(V::template shift16<To - From>(V::load(at)), V::set8(Mask << To));
  }
  struct Table {
    uint8_t value[16];
  };
  static constexpr Table table() {
    Table t{};
    for (int i = 0; i < 16; ++i) t.value[i] = static_cast<uint8_t>(blocks::kIq4NlValues[static_cast<size_t>(i)] + signed_bias<V>());
    return t;
  }
  static constexpr Table kIq4 = table();
};

/// Quads of a panel: bytes as they are multiplied.
template <class V>
struct PlainQuads {
  template <int J>
  PM_INLINE static typename V::I quad(const std::byte* q) {
    return V::load(q + J * 4 * V::kLanes);
  }
};

/// How blocks of a type are multiplied; types that agree in it share their tiles. `Depth`: quads_per_widening. `Zero`: what sums of vpdpbusd begin
/// with, - Zero · Σ x, so that the zero point costs no operation of each cell.
template <int Depth, bool Signed, bool Halves, bool HasM, bool HasFix, bool HasMins, int Zero>
struct Kind {
  static constexpr int depth = Depth;
  static constexpr bool is_signed = Signed;  // codes are signed bytes: magnitudes are multiplied, x takes the sign
  static constexpr bool halves = Halves;     // a scale per 16
  static constexpr bool has_m = HasM;        // a term for the codes' zero point or the block's minimum
  static constexpr bool has_fix = HasFix;    // one for the zero point, in whole numbers
  static constexpr bool has_mins = HasMins;  // one for the minima of the halves
  static constexpr int zero = Zero;
};
template <class V, class Fmt>
constexpr auto kind_of() {
  constexpr bool is_d32 = Fmt::scales == Scales::d32, is_k16 = Fmt::scales == Scales::k16, is_k16m = Fmt::scales == Scales::k16m;
  constexpr bool has_minimum = Fmt::scales == Scales::dm32 || Fmt::scales == Scales::k32 || is_k16m;
  constexpr int zero = is_signed(Fmt::bits) ? signed_bias<V>() : Fmt::zero;
  if constexpr (V::kVnni) {
    return Kind<0, false, Fmt::halves, has_minimum, false, is_k16m, zero>{};
  } else {
    constexpr int deepest = quads_per_widening(Fmt::bits), depth = Fmt::halves && deepest > 4 ? 4 : deepest;
    return Kind<depth, is_signed(Fmt::bits), Fmt::halves, has_minimum || (is_d32 && zero != 0), is_k16, is_k16m, 0>{};
  }
}
template <class V, class Fmt>
using KindOf = decltype(kind_of<V, Fmt>());

/// The kind of a panel's codes, which unpacking raises to the zero point kPanelZero.
template <class K>
struct PanelKind {
  using Type = K;
};
template <bool HasM, bool HasMins, bool Halves, int Zero>
  requires(Zero != 0)
struct PanelKind<Kind<0, false, Halves, HasM, false, HasMins, Zero>> {
  using Type = Kind<0, false, Halves, HasM, false, HasMins, kPanelZero>;
};
template <class V, class Fmt>
using PanelKindOf = typename PanelKind<KindOf<V, Fmt>>::Type;

/// The scales of one block of one group as operands. value · x summed over the block is
///   whole:  s · x.scale · Σ code·x + m · x.scaled_sum
///   halves: s · x.scale · (Σ_h sc[h] · Σ code·x + fix · half_sum) + m · x.scale · (mins · half_sum)
/// With vpdpbusd `code` is less its zero point already, and the scales of halves are f32 with s in them: 32-bit multiplications are slow.
///   halves: x.scale · Σ_h sh[h] · Σ code·x + m · x.scale · (mins · half_sum)
/// Where V::kWholeSums, whole_sh = kWhole · sh[0], exactly, for sh has 19 significant bits.
template <class V, class K>
struct BlockScales {
  static constexpr bool kFloatHalves = V::kVnni && K::halves, kWholeHalves = V::kWholeSums && K::halves;
  typename V::F s, m, sh[2], whole_sh;
  typename V::I sc[2], fix, mins;

  // In a panel: the fields that there are, one vector each.
  static constexpr int kPanelVectors = !kFloatHalves + K::has_m + (K::halves ? 2 : 0) + kWholeHalves + K::has_fix + K::has_mins;
  PM_INLINE void to_panel(std::byte* at) const {
    constexpr int kVector = 4 * V::kLanes;
    V::store_f(at, kFloatHalves ? sh[0] : s);
    if constexpr (kFloatHalves) V::store_f(at += kVector, sh[1]);
    if constexpr (kWholeHalves) V::store_f(at += kVector, whole_sh);
    if constexpr (K::has_m) V::store_f(at += kVector, m);
    if constexpr (K::halves && !kFloatHalves) V::store(at += kVector, sc[0]), V::store(at += kVector, sc[1]);
    if constexpr (K::has_fix) V::store(at += kVector, fix);
    if constexpr (K::has_mins) V::store(at += kVector, mins);
  }
  PM_INLINE void from_panel(const std::byte* at) {
    constexpr int kVector = 4 * V::kLanes;
    (kFloatHalves ? sh[0] : s) = V::load_f(at);
    if constexpr (kFloatHalves) sh[1] = V::load_f(at += kVector);
    if constexpr (kWholeHalves) whole_sh = V::load_f(at += kVector);
    if constexpr (K::has_m) m = V::load_f(at += kVector);
    if constexpr (K::halves && !kFloatHalves) sc[0] = V::load(at += kVector), sc[1] = V::load(at += kVector);
    if constexpr (K::has_fix) fix = V::load(at += kVector);
    if constexpr (K::has_mins) mins = V::load(at += kVector);
  }
};

/// Two numbers of 16 bits in every 32-bit lane.
template <class V>
PM_INLINE inline typename V::I pair16(typename V::I low, typename V::I high) {
  return V::bit_or(V::bit_and(low, V::set32(0xffff)), V::template shift32_left<16>(high));
}
/// What Σ code·x of a half is multiplied with, from a 32-bit number: a pair, since those are 16-bit sums, or f32 with vpdpbusd.
template <class V, class K>
PM_INLINE inline void set_half_scale(typename V::I scale, int half, BlockScales<V, K>& to) {
  if constexpr (BlockScales<V, K>::kFloatHalves) to.sh[half] = V::mul(to.s, V::to_float(scale));
  else to.sc[half] = pair16<V>(scale, scale);
  if (BlockScales<V, K>::kWholeHalves && half == 0) to.whole_sh = V::mul(to.sh[0], V::set_f(kWhole));
}

template <class V, class Fmt>
PM_INLINE inline void load_scales(const std::byte* header, int64_t block, BlockScales<V, KindOf<V, Fmt>>& to) {
  constexpr int R = V::kLanes;
  const std::byte* at = header + static_cast<size_t>(Fmt::super ? block / 8 : block) * Layout<V, Fmt>::kEntryBytes;
  to.s = V::lanes_f16(at);
  if constexpr (Fmt::scales == Scales::dm32) to.m = V::lanes_f16(at + 2 * R);
  if constexpr (Fmt::scales == Scales::d32 && KindOf<V, Fmt>::has_m) to.m = V::mul(to.s, V::set_f(-static_cast<float>(Fmt::zero)));
  const std::byte* packed = at + (Fmt::scales == Scales::k16 ? 2 : 4) * R + block % 8 * 2 * R;
  if constexpr (Fmt::scales == Scales::k32) {
    to.s = V::mul(to.s, V::to_float(V::lanes_u8(packed)));
    to.m = V::mul(V::mul(V::lanes_f16(at + 2 * R), V::to_float(V::lanes_u8(packed + R))), V::set_f(-1));
  }
  if constexpr (Fmt::scales == Scales::k16) {
    const auto first = V::lanes_i8(packed), second = V::lanes_i8(packed + R);
    set_half_scale(first, 0, to);
    set_half_scale(second, 1, to);
    if constexpr (KindOf<V, Fmt>::has_fix) to.fix = V::mul16(pair16<V>(first, second), V::set16(-Fmt::zero));
  }
  if constexpr (Fmt::scales == Scales::k16m) {
    const auto first = V::lanes_u8(packed), second = V::lanes_u8(packed + R);
    set_half_scale(V::bit_and(first, V::set8(15)), 0, to);
    set_half_scale(V::bit_and(second, V::set8(15)), 1, to);
    to.mins = V::bit_and(V::template shift16<-4>(pair16<V>(first, second)), V::set8(15));
    to.m = V::mul(V::lanes_f16(at + 2 * R), V::set_f(-1));
  }
}

}  // namespace pagemill::linear_detail
