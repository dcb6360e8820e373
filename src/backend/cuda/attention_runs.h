// Prefill attention's tiles: which pairs (row, head of the group) of which sequence a block computes. Found on the device, so that a
// launch depends on the number of rows and sequences alone.
#pragma once

#include "backend/cuda/device_math.h"

namespace pagemill::cuda {

struct PrefillParams {
  const unsigned char* kv;
  const int32_t *block_table, *positions, *row_begin;
  int table_stride, seqs, heads, kv_heads, window;
  float scale_log2;
};

inline PrefillParams prefill_params(const AttentionArgs& a) {
  return {static_cast<const unsigned char*>(a.kv.base), a.block_table, a.positions, a.row_begin, a.table_stride, a.seqs, a.heads, a.kv.kv_heads,
          a.window, a.scale * 1.4426950408889634f};
}

/// Pairs [first_pair, min(first_pair + tile size, pairs)) of sequence `seq`, whose rows begin at row_begin and whose first
/// row stands at first_position. seq -1: nothing left.
struct RunTile {
  int seq, first_pair, pairs, row_begin, first_position;
};

/// The tile's number counts through the sequences with more than one row. All lanes of every warp call it and get the same.
__device__ inline RunTile find_run_tile(const PrefillParams& p, int tile_pairs, int number) {
  const int group = p.heads / p.kv_heads, lane = threadIdx.x % kWarp;
  for (int first = 0; first < p.seqs; first += kWarp) {
    const int seq = first + lane;
    const int begin = seq < p.seqs ? ptx::load_i32(p.row_begin + seq) : 0, end = seq < p.seqs ? ptx::load_i32(p.row_begin + seq + 1) : 0;
    const int pairs = end - begin > 1 ? (end - begin) * group : 0, tiles = (pairs + tile_pairs - 1) / tile_pairs;
    int before = tiles;  // of this sequence and those before it
#pragma unroll
    for (int distance = 1; distance < kWarp; distance *= 2) {
      const int other = __shfl_up_sync(kAllLanes, before, distance);
      if (lane >= distance) before += other;
    }
    const unsigned mine = __ballot_sync(kAllLanes, number < before);
    if (mine != 0) {
      const int source = __ffs(static_cast<int>(mine)) - 1;
      const int local = number - (__shfl_sync(kAllLanes, before, source) - __shfl_sync(kAllLanes, tiles, source));
      const int row = __shfl_sync(kAllLanes, begin, source);
      return {first + source, local * tile_pairs, __shfl_sync(kAllLanes, pairs, source), row, ptx::load_i32(p.positions + row)};
    }
    number -= __shfl_sync(kAllLanes, before, kWarp - 1);
  }
  return {-1, 0, 0, 0, 0};
}

}  // namespace pagemill::cuda
