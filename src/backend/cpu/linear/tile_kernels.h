// Products by tiles (AMX) over the packed layouts, written once over a vector type V of 16 lanes with vpdpbusd and a tile type T
// (vec/tile_config.h).
//
// bf16 weights: x is rounded to bf16 and every number of rows goes through tiles, since no vector kernel adds in the order that TDPBF16PS has. A
// row's sums do not depend on the other rows of its tile.
//
// f16 weights: as quantised types, but as the sum of two bf16 numbers, which is exact.
//
// Quantised types: a panel is unpacked to bf16, what a bf16 weight would hold there, and multiplied as one. A scale for every 16 or 32 elements lies
// in the weights then, so that sums stay in their tile over a whole piece of k. (By int8 tiles each block's product would have to be stored and
// scaled by itself: slower than vectors, measured.) Fewer rows than a panel pays for go through the vector kernels, whose values differ.
#pragma once

#include <cstring>

#include "backend/cpu/linear/bf16_kernels.h"
#include "backend/cpu/linear/tiles.h"
#include "backend/cpu/vec/tile_config.h"

namespace pagemill::linear_detail {

// --- bf16 -----------------------------------------------------------------------------------------------------------------------

/// RowTiles tiles of rows of x by 32 output rows, of which each weight is the sum of Parts numbers. Registers: x 0, 1; weights 2, 3; sums
/// 4 + 2 · row tile + half. Near: the weights ahead are wanted in the first-level cache, else in the second.
template <class V, class T, int Parts, int RowTiles, bool Near>
void bf16_block(const std::byte* weights, const std::byte* x, int64_t steps, bool add, Ahead& ahead, float* sums) {
  constexpr int64_t kSumsStride = kFloatLanes * sizeof(float), kXStep = RowTiles * static_cast<int64_t>(RoundedRows::kTileBytes);
  unroll<2 * RowTiles>([&](auto cell) PM_INLINE {
    constexpr int row = cell / 2, half = cell % 2;
    if (add) T::template load<4 + cell>(sums + row * 16 * kFloatLanes + half * 16, kSumsStride);
    else T::template zero<4 + cell>();
  });
  for (; steps > 0; --steps, x += kXStep) {
    constexpr int64_t kTile = static_cast<int64_t>(RoundedRows::kTileBytes);
    unroll<Parts>([&](auto part) PM_INLINE {
      unroll<2>([&](auto half) PM_INLINE { T::template load<2 + half>(weights + half * 64, kPairBytes); });
      if constexpr (part == 0) unroll<RowTiles>([&](auto row) PM_INLINE { T::template load<row>(x + row * kTile, 64); });
      unroll<RowTiles>([&](auto row) PM_INLINE {
        unroll<2>([&](auto half) PM_INLINE { T::template dot_bf16<4 + 2 * row + half, row, 2 + half>(); });
        if constexpr (part == 0) unroll<kTile / 64>([&](auto line) PM_INLINE { V::prefetch(x + kStepsAhead * kXStep + row * kTile + line * 64); });
      });
      weights += kRoundedStepBytes;
    });
    ahead.ask([](const std::byte* line) PM_INLINE {
      if constexpr (Near) V::prefetch(line);
      else V::prefetch_second(line);
    });
  }
  unroll<2 * RowTiles>([&](auto cell) PM_INLINE {
    constexpr int row = cell / 2, half = cell % 2;
    T::template store<4 + cell>(sums + row * 16 * kFloatLanes + half * 16, kSumsStride);
  });
}

/// FloatKernels::multiply_rounded.
template <class V, class T, int Parts>
void bf16_multiply(const std::byte* weights, int64_t steps, bool add, const std::byte* x, int64_t rows, const NextWeights& next, float* sums) {
  constexpr int64_t kRows = RoundedRows::kTileRows;
  const int64_t row_tiles = RoundedRows::row_tiles(rows), pairs = (row_tiles + 1) / 2;
  vec::TileConfig config;
  for (int t = 0; t < vec::kTiles; ++t) config.set(t, vec::kTileRows, vec::kTileRowBytes);
  if (rows < kRows)
    for (const int t : {0, 4, 5}) config.set(t, static_cast<int>(rows), vec::kTileRowBytes);
  T::configure(config);
  const bool direct = Parts == 1 && pairs == 1 && next.first == nullptr;  // weights come from memory and are read once
  Ahead ahead = Ahead::parts_of(direct ? NextWeights{weights + kDirectAhead, nullptr, steps * kRoundedStepBytes / 64} : next, pairs * steps);
  for (int64_t pair = 0; pair < pairs; ++pair) {
    const bool two = 2 * pair + 2 <= row_tiles;
    const auto block = direct ? (two ? &bf16_block<V, T, Parts, 2, true> : &bf16_block<V, T, Parts, 1, true>)
                              : (two ? &bf16_block<V, T, Parts, 2, false> : &bf16_block<V, T, Parts, 1, false>);
    block(weights, x + 2 * pair * steps * static_cast<int64_t>(RoundedRows::kTileBytes), steps, add, ahead, sums + 2 * pair * kRows * kFloatLanes);
  }
  T::release();
}

// --- quantised types ------------------------------------------------------------------------------------------------------------

/// value = scale · code + offset in f32, of each half of one block: what dequantize_row gives, to the bit, since scale · code is exact.
template <class V, class Fmt>
struct ValueScales {
  using K = KindOf<V, Fmt>;
  typename V::F scale[2], offset[2];

  PM_INLINE explicit ValueScales(const BlockScales<V, K>& from) {
    if constexpr (!K::halves) {
      scale[0] = scale[1] = from.s;
      if constexpr (K::has_m) offset[0] = offset[1] = from.m;
      else offset[0] = offset[1] = V::mul(from.s, V::set_f(-static_cast<float>(K::zero)));
    } else {
      unroll<2>([&](auto half) PM_INLINE {
        scale[half] = from.sh[half];
        if constexpr (K::has_mins) offset[half] = V::mul(from.m, V::to_float(V::bit_and(V::template shift32_right<16 * half>(from.mins), V::set32(0xffff))));
        else offset[half] = V::mul(scale[half], V::set_f(-static_cast<float>(Fmt::zero)));
      });
    }
  }
  PM_INLINE typename V::F value(int half, typename V::I code) const { return V::fma(scale[half], V::to_float(code), offset[half]); }
};

/// QuantizedKernels::unpack_bf16: a quad of a lane, four codes, becomes two pairs along k.
template <class V, class T, class Fmt>
void unpack_bf16(const std::byte* group, int64_t in, int64_t begin, int64_t count, std::byte* to) {
  static_assert(V::kLanes == 16 && V::kVnni);
  using L = Layout<V, Fmt>;
  const std::byte* q = group + L::header_bytes(in) + static_cast<size_t>(begin) * L::kBlockBytes;
  for (int64_t block = begin; block < begin + count; ++block, q += L::kBlockBytes) {
    BlockScales<V, KindOf<V, Fmt>> packed;
    load_scales<V, Fmt>(group, block, packed);
    const ValueScales<V, Fmt> scales(packed);
    unroll<8>([&](auto j) PM_INLINE {
      constexpr int half = j / 4;
      const auto quad = PackedQuads<V, Fmt::bits>::template quad<j>(q);
      const auto code = [&](auto at) PM_INLINE { return V::bit_and(V::template shift32_right<8 * at>(quad), V::set32(0xff)); };
      unroll<2>([&](auto pair) PM_INLINE {
        constexpr std::integral_constant<int, 2 * pair> even;
        constexpr std::integral_constant<int, 2 * pair + 1> odd;
        T::round_pairs(scales.value(half, code(even)), scales.value(half, code(odd)), to);
        to += kPairBytes;
      });
    });
  }
}

// --- f16 ------------------------------------------------------------------------------------------------------------------------

/// FloatKernels::unpack_bf16 of f16: the upper 8 bits of 11, cut off, then the others; both exact. Elements past the end are zeros.
template <class V, class T>
void unpack_f16(const std::byte* group, int64_t in, int64_t begin, int64_t count, std::byte* to) {
  constexpr int64_t kStep = RoundedRows::kTileCols;
  const auto upper = V::set32(-0x10000);
  for (int64_t k = begin * kStep; k < (begin + count) * kStep; k += 2, to += kPairBytes) {
    for (const int64_t line : {0, 1}) V::prefetch(group + (k + line) * kFloatLanes * 2 + kFloatAhead);
    if (k > begin * kStep && k % kStep == 0) to += kRoundedStepBytes;  // the step's second part is there
    for (int64_t lane = 0; lane < kFloatLanes; lane += V::kLanes) {
      const auto value = [&](int64_t at) PM_INLINE { return at < in ? V::lanes_f16(group + (at * kFloatLanes + lane) * 2) : V::zero_f(); };
      const auto even = value(k), odd = value(k + 1), high_even = V::as_float(V::bit_and(V::as_int(even), upper)), high_odd = V::as_float(V::bit_and(V::as_int(odd), upper));
      T::round_pairs(high_even, high_odd, to + lane * 4);
      T::round_pairs(V::fma(high_even, V::set_f(-1), even), V::fma(high_odd, V::set_f(-1), odd), to + kRoundedStepBytes + lane * 4);
    }
  }
}

// --- the table --------------------------------------------------------------------------------------------------------------------

template <class V, class T, class... Formats>
void add_bf16_panels(LinearKernels& table) {
  table.bf16_panels = true;
  ((table.quantized[static_cast<int>(Formats::dtype)].unpack_bf16 = &unpack_bf16<V, T, Formats>), ...);
}

/// `table`, made for V, with its panels and its bf16 weights multiplied by tiles.
template <class V, class T>
LinearKernels with_tiles(LinearKernels table, Isa isa) {
  table.isa = isa;
  table.compiled_for = T::kCompiledFor;
  add_bf16_panels<V, T, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q2_K, Q3_K, Q4_K, Q5_K, Q6_K, Iq4Nl>(table);
  table.floats[static_cast<int>(DType::bf16)] = {.group_bytes = &bf16_group_bytes<V>,
                                                 .pack = &bf16_pack<V>,
                                                 .dequantize = &bf16_dequantize<V>,
                                                 .round = &round_tiles<T>,
                                                 .multiply_rounded = &bf16_multiply<V, T, 1>,
                                                 .rows_at_once = 2 * RoundedRows::kTileRows};
  FloatKernels& f16 = table.floats[static_cast<int>(DType::f16)];
  f16.multiply_rounded = &bf16_multiply<V, T, kBf16Parts>;
  f16.unpack_bf16 = &unpack_f16<V, T>;
  return table;
}

/// The same with all but bf16 weights multiplied by vectors for every number of rows.
inline LinearKernels without_bf16_panels(LinearKernels table) {
  table.bf16_panels = false;
  return table;
}

}  // namespace pagemill::linear_detail
