// The small tile type T of the matrix kernels, beside the vector type V of plain.h: eight registers of up to 16 rows of 64 bytes.
//
//   T::configure(config)   gives this thread's registers their shapes and clears them; before anything else, on each thread
//   T::release()           gives them up: what configure() did must not outlive a kernel, or each switch of threads saves 8 KiB
//   T::zero<t>()           clears one
//   T::load<t>(at, stride), T::store<t>(at, stride)    its rows from or to memory, `stride` bytes apart
//   T::dot_su8<c, a, b>()  c[m][n] += Σ_k a[m][k] · b[k / 4][4n + k % 4]: a signed bytes, b unsigned ones, c 32-bit numbers
//   T::dot_bf16<c, a, b>() the same with pairs, c in f32: per pair position (even, odd) a sum over k ascending, c += even + odd;
//                          denormal numbers count as 0 (Intel SDM, TDPBF16PS)
//   T::round_bf16(x, to)   16 f32 → bf16, to nearest even, denormal ones to 0
//   T::round_row<streamed>(x, to)   32 likewise, a line; streamed: past the caches
//   T::round_pairs(even, odd, to)   two vectors of 16 f32 → 16 pairs of bf16, rounded likewise
//
// PlainTiles (plain_tiles.h) is portable C++ and checks what the hardware would fault on; AmxTiles (amx_tiles.h) names the instructions.
#pragma once

#include <cstddef>
#include <cstdint>

namespace pagemill::vec {

inline constexpr int kTiles = 8, kTileRows = 16, kTileRowBytes = 64;

/// What LDTILECFG reads, byte for byte.
struct alignas(64) TileConfig {
  uint8_t palette = 1;
  uint8_t start_row = 0;
  uint8_t reserved[14] = {};
  uint16_t row_bytes[16] = {};  // of the tiles; 8 … 15 do not exist
  uint8_t rows[16] = {};

  [[gnu::always_inline]] constexpr void set(int tile, int rows_of_it, int bytes_of_a_row) {
    rows[tile] = static_cast<uint8_t>(rows_of_it);
    row_bytes[tile] = static_cast<uint16_t>(bytes_of_a_row);
  }
};
static_assert(sizeof(TileConfig) == 64);

}  // namespace pagemill::vec
