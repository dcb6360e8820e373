// PlainTiles: the tile type of tile_config.h in portable C++, so that the loops over tiles and the layout of their operands run, and
// are tested, on every machine. What faults on the hardware is a failed check here: registers that are not configured on this
// thread, operands whose shapes do not fit.
#pragma once

#include <cstring>

#include "backend/cpu/vec/plain_bf16.h"
#include "backend/cpu/vec/tile_config.h"
#include "base/check.h"
#include "base/dtype.h"

namespace pagemill::vec {

class PlainTiles : public PlainBf16 {
 public:
  static constexpr const char* kCompiledFor = "baseline, plain tiles";

  static void configure(const TileConfig& config) {
    PM_CHECK(config.palette == 1 && config.start_row == 0, "palette {}, start_row {}", config.palette, config.start_row);
    for (int t = 0; t < 16; ++t) {
      const int rows = config.rows[t], bytes = config.row_bytes[t];
      PM_CHECK(rows <= kTileRows && bytes <= kTileRowBytes && (rows == 0) == (bytes == 0) && (t < kTiles || rows == 0), "tile {}: {} rows of {} bytes", t, rows, bytes);
    }
    State& s = state();
    s = {};
    s.configured = true;
    s.config = config;
  }
  static void release() { state() = {}; }

  template <int T>
  static void zero() {
    std::memset(tile(T), 0, sizeof(Tile));
  }
  template <int T>
  static void load(const void* from, int64_t stride) {
    Tile& to = *tile(T);
    std::memset(&to, 0, sizeof to);
    for (int row = 0; row < rows(T); ++row) std::memcpy(to.row[row], static_cast<const std::byte*>(from) + row * stride, static_cast<size_t>(row_bytes(T)));
  }
  template <int T>
  static void store(void* to, int64_t stride) {
    const Tile& from = *tile(T);
    for (int row = 0; row < rows(T); ++row) std::memcpy(static_cast<std::byte*>(to) + row * stride, from.row[row], static_cast<size_t>(row_bytes(T)));
  }

  template <int C, int A, int B>
  static void dot_su8() {
    check_product(C, A, B);
    Tile &c = *tile(C), &b = *tile(B);
    const Tile& a = *tile(A);
    for (int m = 0; m < rows(C); ++m) {
      int32_t sums[16];
      std::memcpy(sums, c.row[m], sizeof sums);
      for (int k = 0; k < row_bytes(A); ++k) {
        const int x = static_cast<int8_t>(a.row[m][k]);
        for (int n = 0; n < row_bytes(C) / 4; ++n) sums[n] += x * b.row[k / 4][4 * n + k % 4];
      }
      std::memcpy(c.row[m], sums, static_cast<size_t>(row_bytes(C)));
    }
  }

  template <int C, int A, int B>
  static void dot_bf16() {
    check_product(C, A, B);
    Tile& c = *tile(C);
    const int pairs = row_bytes(A) / 4, columns = row_bytes(C) / 4;
    float b[kTileRows][2][16] = {};  // [pair][even, odd][n]
    for (int k = 0; k < pairs; ++k)
      for (int n = 0; n < columns; ++n)
        for (int odd = 0; odd < 2; ++odd) b[k][odd][n] = element(*tile(B), k, 2 * n + odd);
    for (int m = 0; m < rows(C); ++m) {
      float even[16] = {}, odd[16] = {}, sums[16] = {};
      for (int k = 0; k < pairs; ++k) {
        // A product of two bf16 is exact in f32: rounding it and the sum one by one is the fused operation.
        const float x0 = element(*tile(A), m, 2 * k), x1 = element(*tile(A), m, 2 * k + 1);
        for (int n = 0; n < 16; ++n) even[n] += x0 * b[k][0][n];
        for (int n = 0; n < 16; ++n) odd[n] += x1 * b[k][1][n];
      }
      std::memcpy(sums, c.row[m], static_cast<size_t>(row_bytes(C)));
      for (int n = 0; n < 16; ++n) sums[n] += even[n] + odd[n];
      std::memcpy(c.row[m], sums, static_cast<size_t>(row_bytes(C)));
    }
  }

 private:
  struct Tile {
    uint8_t row[kTileRows][kTileRowBytes];
  };
  struct State {
    bool configured = false;
    TileConfig config;
    Tile tiles[kTiles];
  };
  /// The registers belong to a thread, as the hardware's do.
  static State& state() {
    static thread_local State state{};
    return state;
  }
  static Tile* tile(int t) {
    PM_CHECK(state().configured && state().config.rows[t] > 0, "tile {} is used on a thread that has not configured it", t);
    return &state().tiles[t];
  }
  static int rows(int t) { return state().config.rows[t]; }
  static int row_bytes(int t) { return state().config.row_bytes[t]; }
  static void check_product(int c, int a, int b) {
    PM_CHECK(c != a && c != b && a != b && rows(c) == rows(a) && row_bytes(c) == row_bytes(b) && row_bytes(a) == 4 * rows(b),
             "tiles {} ({} x {}) += {} ({} x {}) * {} ({} x {})", c, rows(c), row_bytes(c), a, rows(a), row_bytes(a), b, rows(b), row_bytes(b));
  }
  static float element(const Tile& t, int row, int index) { return PlainBf16::element(t.row[row], index); }
};

}  // namespace pagemill::vec
