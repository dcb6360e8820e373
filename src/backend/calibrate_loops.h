// Loops over a vector type, instantiated by each calibrate_<isa>.cpp with types of its own unnamed namespace (so that no two
// files share an instantiation). Every accumulator is a scalar after inlining: the compiler keeps them all in registers.
//
// A vector type V has: Acc, W, X (register types); zero(); load_w(p), load_x(p) from aligned bytes; step(acc, w, x), whose
// multiply-adds V::kOps counts. W and X advance by kWBytes and kXBytes.
#pragma once

#include <immintrin.h>

#include <iterator>
#include <utility>

#include "backend/calibrate_kernels.h"

namespace pagemill::calibrate {

/// Makes the compiler forget what it knows of a value without moving it out of its register.
template <class T>
[[gnu::always_inline]] inline void hide(T& value) { __asm__ volatile("" : "+v"(value)); }

/// What the loops work on: both sides fit the first-level cache of whoever runs. The byte 0x3c makes a small normal number in
/// every format, so that nothing overflows, becomes denormal or switches as few transistors as zeros would.
inline constexpr int kTileBytes = 8192;
struct TileData {
  alignas(64) unsigned char w[kTileBytes];
  alignas(64) unsigned char x[kTileBytes];
};
template <class V>
[[gnu::always_inline]] inline TileData tile_data() {
  TileData data;
  for (int i = 0; i < kTileBytes; ++i) data.w[i] = data.x[i] = 0x3c;
  return data;
}

/// `sizeof...(C)` independent accumulators fed from registers.
template <class V, size_t... C>
[[gnu::always_inline]] inline void registers_loop(uint64_t iterations, const TileData& data, std::index_sequence<C...>) {
  typename V::Acc acc[sizeof...(C)];
  ((acc[C] = V::zero(), hide(acc[C])), ...);
  auto w = V::load_w(data.w);
  auto x = V::load_x(data.x);
  hide(w);
  hide(x);
  for (; iterations != 0; --iterations) ((hide(w), acc[C] = V::step(acc[C], w, x)), ...);
  (hide(acc[C]), ...);
}

/// A tile of rows × columns accumulators; each step takes one vector of W per row and one of X per column from the first-level
/// cache. Cells go column by column, so that one X at a time is in a register.
template <class V, size_t... Row, size_t... Cell>
[[gnu::always_inline]] inline void tile_loop(uint64_t iterations, const TileData& data, std::index_sequence<Row...>, std::index_sequence<Cell...>) {
  constexpr size_t kRows = sizeof...(Row), kColumns = sizeof...(Cell) / kRows;
  static_assert(kRows <= 6 && kColumns <= 6);
  constexpr int kSteps = kTileBytes / (6 * 64);
  typename V::Acc acc[sizeof...(Cell)];
  ((acc[Cell] = V::zero(), hide(acc[Cell])), ...);
  const unsigned char* w_bytes = data.w;
  const unsigned char* x_bytes = data.x;
  int left = kSteps;
  for (; iterations != 0; --iterations) {
    const typename V::W w[kRows] = {V::load_w(w_bytes + Row * V::kWBytes)...};
    ((acc[Cell] = V::step(acc[Cell], w[Cell % kRows], V::load_x(x_bytes + Cell / kRows * V::kXBytes))), ...);
    w_bytes += kRows * V::kWBytes;
    x_bytes += kColumns * V::kXBytes;
    if (--left == 0) {
      w_bytes = data.w;
      x_bytes = data.x;
      left = kSteps;
    }
  }
  (hide(acc[Cell]), ...);
}

template <class V, size_t Accumulators>
void run_registers(uint64_t iterations) {
  const TileData data = tile_data<V>();
  registers_loop<V>(iterations, data, std::make_index_sequence<Accumulators>{});
}

template <class V, size_t Rows, size_t Columns>
void run_tile(uint64_t iterations) {
  const TileData data = tile_data<V>();
  tile_loop<V>(iterations, data, std::make_index_sequence<Rows>{}, std::make_index_sequence<Rows * Columns>{});
}

/// Streams parallel runs through memory, each reading 4 vectors at a time; PrefetchBytes ahead where that is not 0.
template <class V, size_t Streams, size_t PrefetchBytes>
void run_read(const std::byte* data, size_t bytes) {
  constexpr size_t kVector = sizeof(V);
  const size_t part = bytes / Streams;
  for (size_t at = 0; at < part; at += 4 * kVector) {
    for (size_t stream = 0; stream < Streams; ++stream) {
      const std::byte* p = data + stream * part + at;
      if constexpr (PrefetchBytes != 0)
        for (size_t line = 0; line < 4 * kVector; line += 64) _mm_prefetch(reinterpret_cast<const char*>(p + PrefetchBytes + line), _MM_HINT_T0);
      V a = *reinterpret_cast<const V*>(p), b = *reinterpret_cast<const V*>(p + kVector);
      V c = *reinterpret_cast<const V*>(p + 2 * kVector), d = *reinterpret_cast<const V*>(p + 3 * kVector);
      hide(a), hide(b), hide(c), hide(d);
    }
  }
}

}  // namespace pagemill::calibrate
