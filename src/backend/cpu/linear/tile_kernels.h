// Products by tiles (AMX) over the packed layouts, written once over a vector type V of 16 lanes with vpdpbusd and a tile type T
// (vec/tile_config.h).
//
// Quantised types: only what follows unpacking changes. A panel's block, eight vectors of 16 rows · 4 codes, is a right operand as it
// lies, and eight rows of QuantizedRows are a left one, 44 bytes apart. A tile's product is the exact sum of one block (or of one
// half, where the type has a scale for each); it is stored and then takes the way of the vector kernels, apply_scales of tiles.h:
// the same operations in the same order. So every result equals the vector kernels' to the bit, and it does not matter
// that fewer rows than a panel pays for go through those.
//
// bf16: x is rounded to bf16 and every number of rows goes through tiles, since no vector kernel adds in the order that TDPBF16PS
// has. A row's sums do not depend on the other rows of its tile.
#pragma once

#include <cstring>

#include "backend/cpu/linear/float_tiles.h"
#include "backend/cpu/linear/kernels.h"
#include "backend/cpu/linear/rounded_rows.h"
#include "backend/cpu/linear/tiles.h"
#include "backend/cpu/vec/tile_config.h"

namespace pagemill::linear_detail {

// --- quantised types ------------------------------------------------------------------------------------------------------------

inline constexpr int kTileColumns8 = QuantizedRows::kTile;  // rows of x in a tile: those that lie at one distance in QuantizedRows

/// One kind's tiles: where they lie, what shapes they have, and the sums of one block in memory.
template <class V, class T, class K>
struct BlockTiles {
  static_assert(V::kLanes == 16 && V::kVnni);
  static constexpr int kHalves = K::halves ? 2 : 1;
  static constexpr int kQuads = 8 / kHalves;                        // of a product
  static constexpr size_t kQuadBytes = 4 * V::kLanes;               // a row of the right operand
  // Registers: left operands 0, 1; right ones 2, 3; sums 4 … 7. Blocks take turns in two of each, so that one block's product
  // need not wait for the last one's; with halves, both of a group are in use at once.
  static constexpr int kLeft = 0, kRight = 2, kSum = 4;

  struct Sums {
    alignas(64) int32_t of[2][2][kTileColumns8][V::kLanes];  // [group][half]
  };

  PM_INLINE static void configure(int columns) {
    vec::TileConfig config;
    for (int t = 0; t < 2; ++t) {
      config.set(kLeft + t, columns, 4 * kQuads);
      config.set(kRight + t, kQuads, static_cast<int>(kQuadBytes));
    }
    for (int t = kSum; t < kSum + 4; ++t) config.set(t, columns, 4 * V::kLanes);
    T::configure(config);
  }

  /// The products of one block of Groups panels with a tile of rows. Turn: 0 or 1, in turn.
  template <int Turn, int Groups>
  PM_INLINE static void multiply(const std::byte* panel, size_t panel_bytes, const QuantBlock* x, Sums& sums) {
    unroll<kHalves>([&](auto half) PM_INLINE {
      constexpr int left = kLeft + (K::halves ? half : Turn);
      T::template load<left>(x->q + half * 16, sizeof(QuantBlock));
    });
    unroll<Groups>([&](auto group) PM_INLINE {
      unroll<kHalves>([&](auto half) PM_INLINE {
        constexpr int left = kLeft + (K::halves ? half : Turn), right = kRight + (K::halves ? half : group);
        constexpr int sum = kSum + 2 * (K::halves ? group : Turn) + (K::halves ? half : group);
        T::template load<right>(panel + group * panel_bytes + half * kQuads * kQuadBytes, kQuadBytes);
        T::template zero<sum>();
        T::template dot_su8<sum, left, right>();
        T::template store<sum>(sums.of[group][half], 4 * V::kLanes);
      });
    });
  }

  /// What block_sums (tiles.h) gives for one cell.
  PM_INLINE static typename V::I sum_of(const Sums& sums, int group, int column, const BlockScales<V, K>& scales) {
    const auto first = V::load(sums.of[group][0][column]);
    if constexpr (!K::halves) return first;
    else return V::add32(V::mul32(first, scales.sc[0]), V::mul32(V::load(sums.of[group][1][column]), scales.sc[1]));
  }
};

/// Blocks that are multiplied before the first of them is scaled: a load cannot take what a tile's store has not yet brought to the cache,
/// and while one thread of a core multiplies the other can scale. Products take 8 KiB of the first-level cache.
template <class K>
inline constexpr int64_t kBatch = K::halves ? 4 : 8;

/// Multiplies each block of Groups panels with a tile of rows and calls apply(block, its products, its scales in the first panel), in order.
template <class V, class T, class K, int Groups, class Apply>
PM_INLINE inline void in_batches(const std::byte* panel, size_t panel_bytes, int64_t blocks, const QuantBlock* x, int64_t x_stride, Apply&& apply) {
  using Tiles = BlockTiles<V, T, K>;
  constexpr size_t kBlock = panel_block_bytes<V, K>();
  typename Tiles::Sums products[kBatch<K>];
  for (int64_t begin = 0; begin < blocks; begin += kBatch<K>) {
    const int64_t end = begin + kBatch<K> < blocks ? begin + kBatch<K> : blocks;
    const auto multiply = [&](auto turn, int64_t block) PM_INLINE {
      Tiles::template multiply<turn, Groups>(panel + static_cast<size_t>(block) * kBlock, panel_bytes, x + block * x_stride, products[block - begin]);
    };
    int64_t block = begin;
    for (; block + 2 <= end; block += 2) {
      multiply(std::integral_constant<int, 0>{}, block);
      multiply(std::integral_constant<int, 1>{}, block + 1);
    }
    if (block < end) multiply(std::integral_constant<int, 0>{}, block);
    for (block = begin; block < end; ++block)
      apply(block, products[block - begin], panel + static_cast<size_t>(block) * kBlock + 8 * Tiles::kQuadBytes);
  }
}

/// Eight rows of x: their sums stay in registers.
template <class V, class T, class K, int Groups>
void tile_panel_wide(const std::byte* panel, size_t panel_bytes, int64_t blocks, const QuantBlock* x, int64_t x_stride, float* sums,
                     int64_t sums_stride) {
  using Tiles = BlockTiles<V, T, K>;
  typename V::F acc[Groups * kTileColumns8];
  unroll<Groups * kTileColumns8>([&](auto cell) PM_INLINE {
    acc[cell] = V::load_f(sums + cell % kTileColumns8 * sums_stride + cell / kTileColumns8 * V::kLanes);
  });
  in_batches<V, T, K, Groups>(
      panel, panel_bytes, blocks, x, x_stride, [&](int64_t block, const typename Tiles::Sums& products, const std::byte* at) PM_INLINE {
        BlockScales<V, K> scales[Groups];
        unroll<Groups>([&](auto g) PM_INLINE { scales[g].from_panel(at + g * panel_bytes); });
        unroll<kTileColumns8>([&](auto c) PM_INLINE {
          unroll<Groups>([&](auto g) PM_INLINE {
            apply_scales(scales[g], x[block * x_stride + c], Tiles::sum_of(products, g, c, scales[g]), acc[g * kTileColumns8 + c]);
          });
        });
      });
  unroll<Groups * kTileColumns8>([&](auto cell) PM_INLINE {
    V::store_f(sums + cell % kTileColumns8 * sums_stride + cell / kTileColumns8 * V::kLanes, acc[cell]);
  });
}

/// The last rows, fewer than eight: their sums stay in memory.
template <class V, class T, class K, int Groups>
void tile_panel_few(const std::byte* panel, size_t panel_bytes, int64_t blocks, const QuantBlock* x, int64_t x_stride, int columns, float* sums,
                    int64_t sums_stride) {
  using Tiles = BlockTiles<V, T, K>;
  in_batches<V, T, K, Groups>(
      panel, panel_bytes, blocks, x, x_stride, [&](int64_t block, const typename Tiles::Sums& products, const std::byte* at) PM_INLINE {
        unroll<Groups>([&](auto g) PM_INLINE {
          BlockScales<V, K> scales;
          scales.from_panel(at + g * panel_bytes);
          for (int c = 0; c < columns; ++c) {
            float* cell = sums + c * sums_stride + g * V::kLanes;
            auto acc = V::load_f(cell);
            apply_scales(scales, x[block * x_stride + c], Tiles::sum_of(products, g, c, scales), acc);
            V::store_f(cell, acc);
          }
        });
      });
}

template <class V, class T, class K, int Groups>
void tile_panel_groups(const std::byte* panel, size_t panel_bytes, int64_t blocks, const QuantBlock* x, int64_t x_stride, int64_t x_tile_stride,
                       int columns, int64_t tiles, float* sums, int64_t sums_stride) {
  for (; tiles > 0; --tiles, x += x_tile_stride, sums += columns * sums_stride) {
    if (columns == kTileColumns8) tile_panel_wide<V, T, K, Groups>(panel, panel_bytes, blocks, x, x_stride, sums, sums_stride);
    else tile_panel_few<V, T, K, Groups>(panel, panel_bytes, blocks, x, x_stride, columns, sums, sums_stride);
  }
}

/// QuantizedKernels::panel_tiles.
template <class V, class T, class K>
void tile_panel(const std::byte* panel, size_t panel_bytes, int panels, int64_t blocks, const QuantBlock* x, int64_t x_stride,
                int64_t x_tile_stride, int columns, int64_t tiles, float* sums, int64_t sums_stride) {
  BlockTiles<V, T, K>::configure(columns);
  const auto groups = panels == 2 ? &tile_panel_groups<V, T, K, 2> : &tile_panel_groups<V, T, K, 1>;
  groups(panel, panel_bytes, blocks, x, x_stride, x_tile_stride, columns, tiles, sums, sums_stride);
  T::release();
}

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
void round_tiles(const float* x, int64_t x_stride, int64_t rows, int64_t padded, int64_t in, int64_t begin, int64_t end, std::byte* to, int64_t stride) {
  constexpr int64_t kCols = RoundedRows::kTileCols;
  for (int64_t tile = begin; tile < end; ++tile, to += stride * static_cast<int64_t>(RoundedRows::kTileBytes)) {
    const int64_t count = in - tile * kCols < kCols ? in - tile * kCols : kCols;
    for (int64_t row = 0; row < padded; ++row) {
      float last[kCols] = {};
      const float* from = x + row * x_stride + tile * kCols;
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
    unroll<RowTiles>([&](auto row) PM_INLINE {
      constexpr int64_t kTile = static_cast<int64_t>(RoundedRows::kTileBytes);
      T::template load<row>(x + row * kTile, 64);
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

// --- the table --------------------------------------------------------------------------------------------------------------------

template <class V, class T, class... Formats>
void add_tile_panels(LinearKernels& table) {
  ((table.quantized[static_cast<int>(Formats::dtype)].panel_tiles = &tile_panel<V, T, KindOf<V, Formats>>), ...);
}

/// `table`, made for V, with its panels and its bf16 weights multiplied by tiles.
template <class V, class T>
LinearKernels with_tiles(LinearKernels table, Isa isa) {
  table.isa = isa;
  table.compiled_for = T::kCompiledFor;
  add_tile_panels<V, T, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q2_K, Q3_K, Q4_K, Q5_K, Q6_K, Iq4Nl>(table);
  table.floats[static_cast<int>(DType::bf16)] = {.group_bytes = &bf16_group_bytes<V>,
                                                 .pack = &bf16_pack<V>,
                                                 .dequantize = &bf16_dequantize<V>,
                                                 .round = &round_tiles<V, T>,
                                                 .multiply_rounded = &bf16_multiply<V, T>};
  return table;
}

}  // namespace pagemill::linear_detail
