// LinearKernels: the matrix kernels of one instruction set as a table of functions; what linear.cpp and packed_weight.cpp drive.
//
// A matrix is packed in groups of `lanes` output rows (the last one filled up with zeros). A group is contiguous and stands for
// itself: kernels take pointers to groups. formats.h describes what lies inside a group of a quantised type, float_tiles.h
// that of a 16-bit or f32 one.
#pragma once

#include <cstddef>
#include <cstdint>

#include "backend/cpu/isa.h"
#include "backend/cpu/linear/quantized_rows.h"
#include "base/dtype.h"

namespace pagemill {

/// Blocks of 32 elements along k that a panel holds at most: 16 keep a panel of 32 rows and the activations beside it in the
/// first-level cache.
inline constexpr int64_t kPanelBlocks = 16;
/// From so many rows on a quantised weight is unpacked once into a panel; below, straight from its packed form for each eight rows.
inline constexpr int64_t kPanelRows = 24;
/// From so many on, where the ISA has them, into one of bf16 for tiles: it costs more to unpack, and is as fast as vectors at about this number.
inline constexpr int64_t kBf16PanelRows = 48;
/// The same for f16 weights, whose vector products are slower.
inline constexpr int64_t kBf16PanelRowsOfF16 = 24;
/// Bytes of one group's panel, at most: 16 lanes · 4 bytes · (8 vectors + 5 of scales) · kPanelBlocks.
inline constexpr size_t kPanelGroupBytes = 16 * 4 * 13 * static_cast<size_t>(kPanelBlocks);

/// Blocks along k that a product straight from packed groups takes, and what it asks memory for meanwhile.
struct DirectBlocks {
  int64_t begin = 0, count = 0;  // begin > 0: products are added to the sums. With K types a multiple of 8.
  /// With kTile rows and two groups: `count` blocks from next_begin on of another group of the same type and length are asked for, not those
  /// that follow.
  const std::byte* next_group = nullptr;
  int64_t next_begin = 0;
};

/// One quantised type.
struct QuantizedKernels {
  size_t (*group_bytes)(int64_t in) = nullptr;
  /// Of these, what lies in front of the blocks.
  size_t (*header_bytes)(int64_t in) = nullptr;
  /// Rows of the file → a group. rows[lane] is null past the end of the matrix.
  void (*pack)(const std::byte* const* rows, int64_t in, std::byte* group) = nullptr;
  /// One lane of a group as f32, equal to dequantize_row's.
  void (*dequantize)(const std::byte* group, int lane, int64_t in, float* row) = nullptr;
  /// Products straight from packed groups: sums[group][column · sums_stride + lane]. x: of the first block.
  using Direct = void (*)(const std::byte* const* groups, int64_t in, const DirectBlocks& blocks, const QuantBlock* x, int64_t x_stride,
                          int columns, float* const* sums, int64_t sums_stride);
  /// Of one group, for 1 … QuantizedRows::kTile rows.
  Direct direct = nullptr;
  /// Of two groups in one pass over x. With few rows memory is what is waited for, and two runs of groups that lie far apart are
  /// two streams, which it serves faster than one. With kTile rows: see LinearKernels::pairs_of_tiles.
  Direct direct_pair = nullptr;
  /// Blocks [begin, begin + count) of a group as bytes ready to multiply, for when many rows follow.
  void (*unpack)(const std::byte* group, int64_t in, int64_t begin, int64_t count, std::byte* panel) = nullptr;
  /// The products of `panels` neighbouring panels (1 or 2, panel_bytes apart; a lone one is slow), for 1 … kTile rows:
  /// sums[column · sums_stride + panel · lanes + lane] = or, with `add`, += them.
  void (*panel)(const std::byte* panel, size_t panel_bytes, int panels, int64_t blocks, bool add, const QuantBlock* x, int64_t x_stride,
                int columns, float* sums, int64_t sums_stride) = nullptr;
  /// Steps [begin, begin + count) of 32 elements as the weights of a bf16 type that multiply_rounded reads, rounded to nearest even: the group's
  /// lanes of each pair of elements, from `to` on. Where an ISA multiplies bf16 by tiles, else null.
  void (*unpack_bf16)(const std::byte* group, int64_t in, int64_t begin, int64_t count, std::byte* to) = nullptr;
};

/// One type of 16 or 32 bits per element. Its groups have kFloatLanes rows, whatever the ISA.
inline constexpr int64_t kFloatLanes = 32;
/// What a tile of 32 elements along k takes of a group that multiply_rounded reads.
inline constexpr int64_t kRoundedStepBytes = kFloatLanes * 32 * 2;
/// Weights that are read next, asked for in equal parts beside the products.
struct NextWeights {
  const std::byte *first = nullptr, *second = nullptr;  // of two groups, or of one; null: nothing is
  int64_t lines = 0;                                    // of 64 bytes, of each
};
/// bf16 numbers that an f16 weight is the sum of: 8 bits of the 11, then what is left.
inline constexpr int64_t kBf16Parts = 2;
struct FloatKernels {
  size_t (*group_bytes)(int64_t in) = nullptr;
  void (*pack)(const std::byte* const* rows, int64_t in, std::byte* group) = nullptr;
  void (*dequantize)(const std::byte* group, int lane, int64_t in, float* row) = nullptr;
  /// Adds the products of elements [begin, begin + count) to sums[column · kFloatLanes + lane], for any number of rows.
  void (*multiply)(const std::byte* group, int64_t begin, int64_t count, const float* x, int64_t x_stride, int64_t columns,
                   float* sums) = nullptr;

  /// Whole products of one, two or four groups in a pass over x, each a stream from memory: sums[group][column · kFloatLanes + lane]. For rows that
  /// registers hold: groups · columns <= cells.
  using Streams = void (*)(const std::byte* const* groups, int64_t in, const float* x, int64_t x_stride, int columns, float* const* sums);
  Streams one_stream = nullptr, two_streams = nullptr, four_streams = nullptr;
  int cells = 0;

  // Where an ISA multiplies the type with rows of bf16 (RoundedRows), instead of multiply:
  /// Rounds x [rows, cols] of one row tile: into tiles along k, `stride` tiles apart, from their row `to` on. Rows past those up to `padded` become
  /// zeros, as do elements past the end that the last tile has room for. streamed: past the caches; others see it after stream_fence().
  void (*round)(const float* x, int64_t x_stride, int64_t rows, int64_t padded, int64_t cols, std::byte* to, int64_t stride, bool streamed) = nullptr;
  /// The products of `steps` tiles along k, from `weights` and `x` on (RoundedRows: one piece of neighbouring pairs of row tiles):
  /// sums[row · kFloatLanes + lane] = or, with `add`, += them. From 16 rows on the sums have room for whole tiles of rows.
  void (*multiply_rounded)(const std::byte* weights, int64_t steps, bool add, const std::byte* x, int64_t rows, const NextWeights& next,
                           float* sums) = nullptr;
  /// So many rows or fewer read the weights once.
  int64_t rows_at_once = 0;
  /// f16, whose multiply_rounded wants panels (LinearKernels::bf16_panels, from kBf16PanelRowsOfF16 rows on): steps [begin, begin + count) of 32
  /// elements of a group as kBf16Parts bf16 numbers whose sum is the weight, [step][part][pair][lane][2].
  void (*unpack_bf16)(const std::byte* group, int64_t in, int64_t begin, int64_t count, std::byte* to) = nullptr;
};

struct LinearKernels {
  Isa isa = Isa::plain;
  const char* compiled_for = nullptr;  // what the file's compiler flags allowed: proof of which body runs
  int lanes = 0;
  bool vnni = false;
  bool pairs_of_tiles = false;  // registers hold the sums of two groups and kTile rows, each number of which then serves both groups
  bool bf16_panels = false;  // panels of quantised types and of f16 are bf16 and go through unpack_bf16 and multiply_rounded
  QuantizedKernels quantized[kDTypeCount];  // by DType; empty for types of 16 and 32 bits
  FloatKernels floats[kDTypeCount];         // by DType; empty for quantised ones
  /// Block b of x to to[b / 8 · eight_stride + b % 8 · stride].
  void (*quantize)(const float* x, int64_t blocks, QuantBlock* to, int64_t stride, int64_t eight_stride) = nullptr;
  /// gate[i] = silu(gate[i]) · up[i]; n is a multiple of 32.
  void (*silu_mul)(float* gate, const float* up, int64_t n) = nullptr;

  /// Whether so many rows of a weight that has them go through bf16 panels.
  bool takes_bf16_panels(int64_t rows) const { return bf16_panels && rows >= kBf16PanelRows; }
};

/// The table of an ISA; runs only where isa_available(isa). deterministic: a row's value depends on no other row with any type of weights. All are
/// so but Isa::amx, whose panels of quantised types are otherwise bf16.
const LinearKernels& linear_kernels(Isa isa, bool deterministic = false);

/// The plain instance shaped like another one: 8 or 16 lanes, with or without vpdpbusd's arithmetic. For tests.
const LinearKernels& plain_linear_kernels(int lanes, bool vnni);

/// The plain instance of the kernels over tiles: 16 lanes, vpdpbusd's arithmetic, and plain tiles where Isa::amx has the CPU's. For tests.
const LinearKernels& plain_tile_linear_kernels(bool deterministic = false);

}  // namespace pagemill
