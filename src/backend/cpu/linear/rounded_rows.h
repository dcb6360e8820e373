// RoundedRows: activations as bf16, the left operand of products by tiles (tile_kernels.h).
//
// Layout: tiles of [16 rows][32 elements], 1 KiB each, in the order in which a product reads them: pieces of up to kPieceTiles tiles along k, as equal
// as can be; in a piece pairs of row tiles; in a pair k by k, the two side by side. So all rows of one piece are one stream. The last piece is narrower
// and the last pair may be one tile. Rows and elements are rounded up to whole tiles with zeros; a matrix of fewer than 16 rows has tiles of 16
// rows' size, of which those past its end are neither written nor read.
// Ownership: a view; the memory is the caller's (bytes() says how much, 64-byte aligned).
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

namespace pagemill {

class RoundedRows {
 public:
  static constexpr int64_t kTileRows = 16, kTileCols = 32;
  static constexpr size_t kTileBytes = kTileRows * kTileCols * 2;
  static constexpr int64_t kPieceTiles = 16;

  RoundedRows() = default;
  RoundedRows(std::byte* memory, int64_t rows, int64_t cols) : data_(memory), rows_(rows), cols_(cols) {}
  static int64_t row_tiles(int64_t rows) { return (rows + kTileRows - 1) / kTileRows; }
  static int64_t col_tiles(int64_t cols) { return (cols + kTileCols - 1) / kTileCols; }
  /// Tiles along k of every piece but the last.
  static int64_t piece_tiles(int64_t cols) {
    const int64_t tiles = col_tiles(cols), pieces = (tiles + kPieceTiles - 1) / kPieceTiles;
    return (tiles + pieces - 1) / pieces;
  }
  static size_t bytes(int64_t rows, int64_t cols) { return static_cast<size_t>(row_tiles(rows) * col_tiles(cols)) * kTileBytes; }

  explicit operator bool() const { return data_ != nullptr; }
  int64_t rows() const { return rows_; }
  int64_t cols() const { return cols_; }
  /// Tile `col_tile` of the rows from 16 · row_tile on; inside a piece the next one along k lies stride(row_tile) tiles on.
  std::byte* tile(int64_t row_tile, int64_t col_tile) const {
    const int64_t piece = piece_tiles(cols_), first = col_tile / piece * piece, width = std::min(piece, col_tiles(cols_) - first), pair = row_tile / 2 * 2;
    const int64_t index = first * row_tiles(rows_) + pair * width + (col_tile - first) * stride(row_tile) + row_tile - pair;
    return data_ + static_cast<size_t>(index) * kTileBytes;
  }
  int64_t stride(int64_t row_tile) const { return std::min<int64_t>(2, row_tiles(rows_) - row_tile / 2 * 2); }

 private:
  std::byte* data_ = nullptr;
  int64_t rows_ = 0;
  int64_t cols_ = 0;
};

}  // namespace pagemill
