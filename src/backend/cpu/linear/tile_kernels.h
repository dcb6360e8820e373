// Products by tiles (AMX) over the packed layouts, written once over a vector type V of 16 lanes with vpdpbusd and a tile type T
// (vec/tile_config.h).
//
// bf16 weights: x is rounded to bf16 and every number of rows goes through tiles, since no vector kernel adds in the order that TDPBF16PS has. A
// row's sums do not depend on the other rows of its tile.
//
// Quantised types: a panel is unpacked to bf16, what a bf16 weight would hold there, and multiplied as one. A scale for every 16 or 32 elements lies
// in the weights then, so that sums stay in their tile over a whole piece of k. (By int8 tiles each block's product would have to be stored and
// scaled by itself: slower than vectors, measured.) Fewer rows than a panel pays for go through the vector kernels, whose values differ.
#pragma once

#include <cstring>

#include "backend/cpu/linear/float_tiles.h"
#include "backend/cpu/linear/kernels.h"
#include "backend/cpu/linear/rounded_rows.h"
#include "backend/cpu/linear/tiles.h"
#include "backend/cpu/vec/tile_config.h"

namespace pagemill::linear_detail {

// --- bf16 -----------------------------------------------------------------------------------------------------------------------
// A group holds kFloatLanes output rows as pairs along k: [in / 2][kFloatLanes][2], in rounded up to 32 elements with zeros.

inline constexpr int64_t kPairBytes = kFloatLanes * 4;  // all lanes of one pair
static_assert(16 * kPairBytes == kRoundedStepBytes);    // 32 elements: two right operands side by side

template <class V>
size_t bf16_group_bytes(int64_t in) {
  return static_cast<size_t>((in + 31) / 32 * kRoundedStepBytes);
}

template <class V>
void bf16_pack(const std::byte* const* rows, int64_t in, std::byte* group) {
  float_pack<V, DType::f32>(rows, in / 2, group);  // a pair is moved as f32 would be
  if (in % 2 == 0) return;
  for (int64_t lane = 0; lane < kFloatLanes; ++lane)
    if (rows[lane] != nullptr) std::memcpy(group + in / 2 * kPairBytes + lane * 4, rows[lane] + (in - 1) * 2, 2);
}

template <class V>
void bf16_dequantize(const std::byte* group, int lane, int64_t in, float* row) {
  for (int64_t k = 0; k < in; ++k) {
    uint16_t bits;
    std::memcpy(&bits, group + k / 2 * kPairBytes + lane * 4 + k % 2 * 2, sizeof bits);
    row[k] = bf16_to_f32(bits);
  }
}

/// FloatKernels::round.
template <class V, class T>
void round_tiles(const float* x, int64_t x_stride, int64_t rows, int64_t padded, int64_t cols, std::byte* to, int64_t stride) {
  constexpr int64_t kCols = RoundedRows::kTileCols;
  for (; cols > 0; cols -= kCols, x += kCols, to += stride * static_cast<int64_t>(RoundedRows::kTileBytes)) {
    const int64_t count = cols < kCols ? cols : kCols;
    for (int64_t row = 0; row < padded; ++row) {
      float last[kCols] = {};
      const float* from = x + row * x_stride;
      if (row >= rows || count < kCols) {
        if (row < rows) std::memcpy(last, from, static_cast<size_t>(count) * sizeof(float));
        from = last;
      }
      T::round_bf16(from, to + row * 64);
      T::round_bf16(from + 16, to + row * 64 + 32);
    }
  }
}

/// Weights that a product asks for ahead: `lines` of each step's 32 from `at` on, a step further with each step.
struct Ahead {
  const std::byte* at = nullptr;
  int64_t lines = 0;
};

/// What is asked for ahead of x, in steps, and of weights that come straight from memory, in bytes.
inline constexpr int64_t kStepsAhead = 2, kDirectAhead = 4 * kRoundedStepBytes;

/// RowTiles tiles of rows of x by 32 output rows. Registers: x 0, 1; weights 2, 3; sums 4 + 2 · row tile + half. Near: the weights ahead are
/// wanted in the first-level cache, else in the second.
template <class V, class T, int RowTiles, bool Near>
void bf16_block(const std::byte* weights, const std::byte* x, int64_t steps, bool add, Ahead ahead, float* sums) {
  constexpr int64_t kSumsStride = kFloatLanes * sizeof(float), kXStep = RowTiles * static_cast<int64_t>(RoundedRows::kTileBytes);
  unroll<2 * RowTiles>([&](auto cell) PM_INLINE {
    constexpr int row = cell / 2, half = cell % 2;
    if (add) T::template load<4 + cell>(sums + row * 16 * kFloatLanes + half * 16, kSumsStride);
    else T::template zero<4 + cell>();
  });
  for (; steps > 0; --steps, weights += kRoundedStepBytes, x += kXStep, ahead.at += kRoundedStepBytes) {
    unroll<2>([&](auto half) PM_INLINE { T::template load<2 + half>(weights + half * 64, kPairBytes); });
    constexpr int64_t kTile = static_cast<int64_t>(RoundedRows::kTileBytes);
    unroll<RowTiles>([&](auto row) PM_INLINE { T::template load<row>(x + row * kTile, 64); });
    unroll<RowTiles>([&](auto row) PM_INLINE {
      unroll<2>([&](auto half) PM_INLINE { T::template dot_bf16<4 + 2 * row + half, row, 2 + half>(); });
      unroll<kTile / 64>([&](auto line) PM_INLINE { V::prefetch(x + kStepsAhead * kXStep + row * kTile + line * 64); });
    });
    for (int64_t line = 0; line < ahead.lines; ++line) __builtin_prefetch(ahead.at + 64 * line, 0, Near ? 3 : 2);
  }
  unroll<2 * RowTiles>([&](auto cell) PM_INLINE {
    constexpr int row = cell / 2, half = cell % 2;
    T::template store<4 + cell>(sums + row * 16 * kFloatLanes + half * 16, kSumsStride);
  });
}

/// FloatKernels::multiply_rounded.
template <class V, class T>
void bf16_multiply(const std::byte* weights, int64_t steps, bool add, const std::byte* x, int64_t rows, const std::byte* next, float* sums) {
  constexpr int64_t kRows = RoundedRows::kTileRows, kLines = kRoundedStepBytes / 64;
  const int64_t row_tiles = RoundedRows::row_tiles(rows), pairs = (row_tiles + 1) / 2;
  vec::TileConfig config;
  for (int t = 0; t < vec::kTiles; ++t) config.set(t, vec::kTileRows, vec::kTileRowBytes);
  if (rows < kRows)
    for (const int t : {0, 4, 5}) config.set(t, static_cast<int>(rows), vec::kTileRowBytes);
  T::configure(config);
  if (pairs == 1) {  // weights come from memory and are read once
    const auto block = row_tiles == 2 ? &bf16_block<V, T, 2, true> : &bf16_block<V, T, 1, true>;
    block(weights, x, steps, add, {weights + kDirectAhead, kLines}, sums);
  } else {
    // The next weights are asked for in equal parts beside each pair of tiles.
    const int64_t lines = next == nullptr ? 0 : (kLines + pairs - 1) / pairs;
    const std::byte* from = next == nullptr ? weights : next;
    for (int64_t pair = 0; pair < pairs; ++pair) {
      const auto block = 2 * pair + 2 <= row_tiles ? &bf16_block<V, T, 2, false> : &bf16_block<V, T, 1, false>;
      const int64_t asked = pair * lines, left = kLines - asked;
      block(weights, x + 2 * pair * steps * static_cast<int64_t>(RoundedRows::kTileBytes), steps, add,
            {from + 64 * asked, left < 0 ? 0 : left < lines ? left : lines}, sums + 2 * pair * kRows * kFloatLanes);
    }
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
                                                 .round = &round_tiles<V, T>,
                                                 .multiply_rounded = &bf16_multiply<V, T>};
  return table;
}

/// The same with quantised types multiplied by vectors for every number of rows.
inline LinearKernels without_bf16_panels(LinearKernels table) {
  table.bf16_panels = false;
  return table;
}

}  // namespace pagemill::linear_detail
