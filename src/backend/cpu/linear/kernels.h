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
/// Bytes of one group's panel, at most: 16 lanes · 4 bytes · (8 vectors + 5 of scales) · kPanelBlocks.
inline constexpr size_t kPanelGroupBytes = 16 * 4 * 13 * static_cast<size_t>(kPanelBlocks);

/// One quantised type.
struct QuantizedKernels {
  size_t (*group_bytes)(int64_t in) = nullptr;
  /// Of these, what lies in front of the blocks.
  size_t (*header_bytes)(int64_t in) = nullptr;
  /// Rows of the file → a group. rows[lane] is null past the end of the matrix.
  void (*pack)(const std::byte* const* rows, int64_t in, std::byte* group) = nullptr;
  /// One lane of a group as f32, equal to dequantize_row's.
  void (*dequantize)(const std::byte* group, int lane, int64_t in, float* row) = nullptr;
  /// Products straight from packed groups: sums[group][column · sums_stride + lane].
  using Direct = void (*)(const std::byte* const* groups, int64_t in, const QuantBlock* x, int64_t x_stride, int columns, float* const* sums,
                          int64_t sums_stride);
  /// Of one group, for 1 … QuantizedRows::kTile rows.
  Direct direct = nullptr;
  /// Of two groups in one pass over x, for fewer than kTile rows, where memory is what is waited for. Two runs of groups that lie far apart are
  /// two streams, which memory serves faster than one.
  Direct direct_pair = nullptr;
  /// Blocks [begin, begin + count) of a group as bytes ready to multiply, for when many rows follow.
  void (*unpack)(const std::byte* group, int64_t in, int64_t begin, int64_t count, std::byte* panel) = nullptr;
  /// Adds the products of `panels` neighbouring panels (1 or 2, panel_bytes apart; a lone one is slow) to sums, for 1 … kTile rows:
  /// sums[column · sums_stride + panel · lanes + lane].
  void (*panel)(const std::byte* panel, size_t panel_bytes, int panels, int64_t blocks, const QuantBlock* x, int64_t x_stride,
                int columns, float* sums, int64_t sums_stride) = nullptr;
  /// As panel, for `tiles` tiles of `columns` rows (x_tile_stride blocks apart), with whatever of the thread's state that takes set up and
  /// given back: where an ISA has tile registers that multiply the type faster than its vectors do, else null. The same values as panel's,
  /// to the bit.
  void (*panel_tiles)(const std::byte* panel, size_t panel_bytes, int panels, int64_t blocks, const QuantBlock* x, int64_t x_stride,
                      int64_t x_tile_stride, int columns, int64_t tiles, float* sums, int64_t sums_stride) = nullptr;
};

/// One type of 16 or 32 bits per element. Its groups have kFloatLanes rows, whatever the ISA.
inline constexpr int64_t kFloatLanes = 32;
/// What a tile of 32 elements along k takes of a group that multiply_rounded reads.
inline constexpr int64_t kRoundedStepBytes = kFloatLanes * 32 * 2;
struct FloatKernels {
  size_t (*group_bytes)(int64_t in) = nullptr;
  void (*pack)(const std::byte* const* rows, int64_t in, std::byte* group) = nullptr;
  void (*dequantize)(const std::byte* group, int lane, int64_t in, float* row) = nullptr;
  /// Adds the products of elements [begin, begin + count) to sums[column · kFloatLanes + lane], for any number of rows.
  void (*multiply)(const std::byte* group, int64_t begin, int64_t count, const float* x, int64_t x_stride, int64_t columns,
                   float* sums) = nullptr;

  // Where an ISA multiplies the type with rows of bf16 (RoundedRows), instead of multiply:
  /// Tiles [begin, end) along k of `rows` rows (up to 16), `stride` tiles apart from `to` on; rows past those up to `padded` become zeros.
  void (*round)(const float* x, int64_t x_stride, int64_t rows, int64_t padded, int64_t in, int64_t begin, int64_t end, std::byte* to,
                int64_t stride) = nullptr;
  /// The products of `steps` tiles along k, from `weights` and `x` on (RoundedRows: one piece of neighbouring pairs of row tiles):
  /// sums[row · kFloatLanes + lane] = or, with `add`, += them. rows: up to 15, else as many whole tiles as hold them are written.
  /// `next`: as many weights that will be asked for next, or null.
  void (*multiply_rounded)(const std::byte* weights, int64_t steps, bool add, const std::byte* x, int64_t rows, const std::byte* next,
                           float* sums) = nullptr;
};

struct LinearKernels {
  Isa isa = Isa::plain;
  const char* compiled_for = nullptr;  // what the file's compiler flags allowed: proof of which body runs
  int lanes = 0;
  bool vnni = false;
  QuantizedKernels quantized[kDTypeCount];  // by DType; empty for types of 16 and 32 bits
  FloatKernels floats[kDTypeCount];         // by DType; empty for quantised ones
  void (*quantize)(const float* x, int64_t blocks, QuantBlock* to, int64_t stride) = nullptr;
  /// gate[i] = silu(gate[i]) · up[i]; n is a multiple of 32.
  void (*silu_mul)(float* gate, const float* up, int64_t n) = nullptr;
};

/// The table of an ISA; runs only where isa_available(isa).
const LinearKernels& linear_kernels(Isa isa);

/// The plain instance shaped like another one: 8 or 16 lanes, with or without vpdpbusd's arithmetic. For tests.
const LinearKernels& plain_linear_kernels(int lanes, bool vnni);

/// The plain instance of the kernels over tiles: 16 lanes, vpdpbusd's arithmetic, and plain tiles where Isa::amx has the CPU's. For tests.
const LinearKernels& plain_tile_linear_kernels();

}  // namespace pagemill
