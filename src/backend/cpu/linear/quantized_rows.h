// QuantizedRows: activations as int8 with one scale per 32 elements, the left operand of every product with a quantised weight.
//
// Layout: rows come in tiles of kTile; the last tile holds what is left. Inside a tile block b of its rows lie side by side:
//   tile t: [blocks][width of t] QuantBlock. A kernel reads a tile from one pointer, and one row alone is contiguous.
// Ownership: a view; the memory is the caller's (bytes() says how much, 64-byte aligned) and may be written by several threads
//   as long as they write different rows or blocks.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

namespace pagemill {

/// 1.5 · 2^23: floats about this one are whole numbers, so a whole number of less than 2^22 either way is added to its value by adding it to its
/// bits. Sums of 512-bit vpdpbusd (V::kWholeSums) begin with these bits, and are floats at their end without a conversion.
inline constexpr float kWhole = 12582912;
inline constexpr int32_t kWholeBits = 0x4b400000;

/// The zero point that codes of all types with one have in a panel for vpdpbusd, so that rows can hold what their sums begin with.
inline constexpr int kPanelZero = 128;

/// 32 elements: x[i] ≈ scale · q[i], with scale = max |x| / 127 and q in [-127, 127], never -128.
struct QuantBlock {
  int8_t q[32];
  float scale;          // where V::kWholeSums of at most 22 significant bits, so that kWhole · scale is exact
  float whole_scale;    // kWhole · scale
  float scaled_sum;     // scale · Σ q: what a weight's offset is multiplied with
  int16_t half_sum[2];  // Σ q of elements 0–15 and 16–31
  // - kPanelZero · Σ q, of elements 0–15 and of all, above kWholeBits where V::kWholeSums: what sums by vpdpbusd of codes with that zero point begin with.
  int32_t first_half, first_sum;
};
static_assert(sizeof(QuantBlock) == 56);

class QuantizedRows {
 public:
  static constexpr int64_t kTile = 8;
  static constexpr int64_t kBlock = 32;

  QuantizedRows() = default;
  /// cols is a multiple of kBlock.
  QuantizedRows(std::byte* memory, int64_t rows, int64_t cols)
      : data_(reinterpret_cast<QuantBlock*>(memory)), rows_(rows), row_blocks_(cols / kBlock) {}
  static size_t bytes(int64_t rows, int64_t cols) { return static_cast<size_t>(rows * (cols / kBlock)) * sizeof(QuantBlock); }

  explicit operator bool() const { return data_ != nullptr; }
  int64_t rows() const { return rows_; }
  int64_t cols() const { return row_blocks_ * kBlock; }
  int64_t blocks() const { return row_blocks_; }

  /// Block `index` of a row; the row's next one lies stride(row) blocks on.
  QuantBlock* block(int64_t row, int64_t index) const {
    return data_ + row / kTile * kTile * row_blocks_ + index * stride(row) + row % kTile;
  }
  int64_t stride(int64_t row) const { return std::min(kTile, rows_ - row / kTile * kTile); }

 private:
  QuantBlock* data_ = nullptr;
  int64_t rows_ = 0;
  int64_t row_blocks_ = 0;
};

}  // namespace pagemill
