// Tiles of 64 elements (128 bytes) a row in shared memory as wgmma wants them: groups of 8 rows, and in row r the 16-byte chunk c at
// place c ^ (r % 8). (TMA and CUTLASS call it the 128-byte swizzle.) Rows follow each other without gaps, so a row of threads that
// copies chunks of consecutive rows meets every bank once.
#pragma once

#include "backend/cuda/runtime.h"

namespace pagemill::cuda {

inline constexpr int kTileRowBytes = 128, kTileGroupBytes = 8 * kTileRowBytes;

/// Byte of chunk `chunk` (0 … 7) of row `row`.
__host__ __device__ constexpr int tile_chunk_offset(int row, int chunk) { return row * kTileRowBytes + ((chunk ^ (row % 8)) * 16); }

}  // namespace pagemill::cuda
