// Where a key or value lies inside the KV pool. A piece is one block's 16 tokens of one head, keys or values: what one
// bulk copy brings in. It already has the order that shared memory wants, so that kernels copy it unchanged and read it by
// ldmatrix, or by wgmma as a 128-byte-swizzled operand, without bank conflicts:
//
//   [2 groups of 8 tokens][head_dim / W columns][8 tokens][W elements], W = 64 (128 bytes; 32 where 64 does not divide head_dim)
//
// and within the W elements of token t, the 16-byte chunk c stands at place c ^ (t % 8) (W = 64) or c ^ (t / 2 % 4) (W = 32).
#pragma once

#include "backend/cuda/runtime.h"
#include "base/limits.h"

namespace pagemill::cuda {

inline constexpr int kPieceTokens = limits::kBlockTokens;
static_assert(kPieceTokens == 16);

__host__ __device__ constexpr int kv_column_elems(int head_dim) { return head_dim % 64 == 0 ? 64 : 32; }
__host__ __device__ constexpr int kv_piece_bytes(int head_dim) { return kPieceTokens * head_dim * 2; }

/// Byte of the 16-byte chunk that holds dimensions [8·chunk, 8·chunk + 8) of a token (0 … 15) of the piece.
template <int head_dim>
__host__ __device__ constexpr int kv_chunk_offset(int token, int chunk) {
  constexpr int W = kv_column_elems(head_dim), chunks = W / 8;
  const int row = token % 8, column = chunk / chunks, c = chunk % chunks;
  const int place = W == 64 ? c ^ row : c ^ (row / 2 % 4);
  return (token / 8) * (8 * head_dim * 2) + column * (8 * W * 2) + row * (W * 2) + place * 16;
}
__host__ __device__ inline int kv_chunk_offset(int head_dim, int token, int chunk) {
  const int W = kv_column_elems(head_dim), chunks = W / 8;
  const int row = token % 8, column = chunk / chunks, c = chunk % chunks;
  const int place = W == 64 ? c ^ row : c ^ (row / 2 % 4);
  return (token / 8) * (8 * head_dim * 2) + column * (8 * W * 2) + row * (W * 2) + place * 16;
}
/// Byte of one element.
__host__ __device__ inline int kv_element_offset(int head_dim, int token, int dim) {
  return kv_chunk_offset(head_dim, token, dim / 8) + dim % 8 * 2;
}
/// Byte of a piece in its layer; `values` 0 or 1.
__host__ __device__ inline size_t kv_piece_offset(int kv_heads, int head_dim, int block, int head, int values) {
  return ((static_cast<size_t>(block) * kv_heads + head) * 2 + values) * kv_piece_bytes(head_dim);
}

}  // namespace pagemill::cuda
