// RoundedRows: activations as bf16, the left operand of products by tiles with bf16 weights (tile_kernels.h).
//
// Layout: [rows / 16][cols / 32] tiles of [16 rows][32 elements], 1 KiB each and contiguous: a tile's rows never share a set of the
// cache because of the matrix's width. Both are rounded up, and what is past the end is zero.
// Ownership: a view; the memory is the caller's (bytes() says how much, 64-byte aligned).
#pragma once

#include <cstddef>
#include <cstdint>

namespace pagemill {

class RoundedRows {
 public:
  static constexpr int64_t kTileRows = 16, kTileCols = 32;
  static constexpr size_t kTileBytes = kTileRows * kTileCols * 2;

  RoundedRows() = default;
  RoundedRows(std::byte* memory, int64_t rows, int64_t cols) : data_(memory), rows_(rows), cols_(cols) {}
  static int64_t row_tiles(int64_t rows) { return (rows + kTileRows - 1) / kTileRows; }
  static int64_t col_tiles(int64_t cols) { return (cols + kTileCols - 1) / kTileCols; }
  static size_t bytes(int64_t rows, int64_t cols) { return static_cast<size_t>(row_tiles(rows) * col_tiles(cols)) * kTileBytes; }

  explicit operator bool() const { return data_ != nullptr; }
  int64_t rows() const { return rows_; }
  int64_t cols() const { return cols_; }
  /// Tile `col_tile` of the rows from 16 · row_tile on; the next ones along k follow it.
  std::byte* tile(int64_t row_tile, int64_t col_tile) const {
    return data_ + static_cast<size_t>(row_tile * col_tiles(cols_) + col_tile) * kTileBytes;
  }

 private:
  std::byte* data_ = nullptr;
  int64_t rows_ = 0;
  int64_t cols_ = 0;
};

}  // namespace pagemill
