// Paged attention of runs of rows (prefill chunks, with or without a cached prefix), portable: mma.sync and cp.async.
//
// Shapes: ragged runs of rows; q, out [rows, heads · dim]. The query heads that share a KV head are packed: a tile is 128
// consecutive (row, head of the group) pairs of one sequence and one KV head, so that keys and values are read once for the
// whole group and the causal edge is narrow (128 / group rows).
// Grid: (tiles, kv_heads); tiles is bounded by the host, ⌈rows · group / 128⌉ + sequences, and found on the device; those with the longest
//   contexts start first. Block: 8 warps of 16 pairs each (4 at dim 256); keys and values arrive 64 (16) tokens at a time in two stages.
// Bytes: per tile its context's keys and values (from L2 mostly). FLOPs: 4 · pairs · context · dim. Expected: 60 % of mma.sync's rate.
#include "backend/cuda/attention_hopper.h"
#include "backend/cuda/attention_runs.h"
#include "backend/cuda/attention_tile.h"

namespace pagemill::cuda {
namespace {

template <int dim>
struct Plan {
  static constexpr int kWarps = dim > 128 ? 4 : 8;
  static constexpr int kRows = kWarps * 16;
  static constexpr int kPieces = dim > 128 ? 1 : 4;   // of 16 tokens, a stage; more spill where outputs take 128 registers
  static constexpr int kTokens = kPieces * kPieceTokens;
  static constexpr int kStageBytes = 2 * kPieces * kv_piece_bytes(dim);
  static constexpr size_t kSharedBytes = size_t{2} * kStageBytes;
};

template <int dim>
__device__ void load_stage(unsigned char* to, const PrefillParams& p, const int32_t* table, int kv_head, int first_block, int first_token, int end_token) {
  constexpr int kPiece = kv_piece_bytes(dim), kChunks = kPiece / 16;
#pragma unroll
  for (int piece = 0; piece < Plan<dim>::kPieces; ++piece) {
    const int block = first_block + piece, start = block * kPieceTokens;
    const bool any = start < end_token;
    const int physical = any ? ptx::load_i32(table + block) : 0;
    const unsigned char* from = p.kv + kv_piece_offset(p.kv_heads, dim, max(physical, 0), kv_head, 0);
    for (int chunk = threadIdx.x; chunk < 2 * kChunks; chunk += Plan<dim>::kWarps * kWarp) {
      const int token = start + kv_token_of_chunk(dim, chunk % kChunks);
      // Keys of the stage, then values.
      unsigned char* at = to + (chunk < kChunks ? 0 : Plan<dim>::kPieces * kPiece) + piece * kPiece + chunk % kChunks * 16;
      ptx::cp_async_16(at, from + chunk * 16, token >= first_token && token < end_token ? 16 : 0);
    }
  }
}

template <class T, int dim>
__global__ void __launch_bounds__(Plan<dim>::kWarps* kWarp, 1) prefill_kernel(const PrefillParams p, const T* q, T* out) {
  using P = Plan<dim>;
  constexpr int kPiece = kv_piece_bytes(dim);
  unsigned char* const shared = dynamic_shared<unsigned char>();
  ptx::let_next_kernel_start();
  ptx::wait_for_previous_kernel();
  const int group = p.heads / p.kv_heads;
  const RunTile tile = find_run_tile(p, P::kRows, gridDim.x - 1 - blockIdx.x);
  if (tile.seq < 0) return;
  const int kv_head = blockIdx.y, warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp, g = lane / 4, t = lane % 4;

  // The two pairs of this lane; those past the end repeat the last one and are not stored.
  const T* queries[2];
  int position[2];
  int64_t at[2];
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    const int pair = min(tile.first_pair + warp * 16 + r * 8 + g, tile.pairs - 1), row = tile.row_begin + pair / group;
    at[r] = (static_cast<int64_t>(row) * p.heads + kv_head * group + pair % group) * dim;
    queries[r] = q + at[r];
    position[r] = tile.first_position + pair / group;
  }
  uint32_t a[dim / 16][4];
  load_queries<T, dim>(queries[0], queries[1], a);

  const int last_pair = min(tile.first_pair + P::kRows, tile.pairs) - 1;
  const int first_token = first_seen(tile.first_position + tile.first_pair / group, p.window);
  const int end_token = tile.first_position + last_pair / group + 1;
  const int32_t* table = p.block_table + static_cast<int64_t>(tile.seq) * p.table_stride;
  const int first_block = first_token / kPieceTokens;
  const int stages = (end_token - first_block * kPieceTokens + P::kTokens - 1) / P::kTokens;

  load_stage<dim>(shared, p, table, kv_head, first_block, first_token, end_token);
  ptx::cp_async_commit();
  Attended<dim> attended;
  for (int stage = 0; stage < stages; ++stage) {
    if (stage + 1 < stages)
      load_stage<dim>(shared + (stage + 1) % 2 * P::kStageBytes, p, table, kv_head, first_block + (stage + 1) * P::kPieces, first_token, end_token);
    ptx::cp_async_commit();
    ptx::cp_async_wait<1>();
    __syncthreads();
    const unsigned char* keys = shared + stage % 2 * P::kStageBytes;
    const unsigned char* values = keys + P::kPieces * kPiece;
    const int start = (first_block + stage * P::kPieces) * kPieceTokens;
    float scores[2 * P::kPieces][4] = {};
#pragma unroll
    for (int piece = 0; piece < P::kPieces; ++piece) {
      float(&two)[2][4] = *reinterpret_cast<float(*)[2][4]>(&scores[2 * piece]);
      score_piece<T, dim>(a, keys + piece * kPiece, two);
    }
    // A mask only where the stage crosses the causal edge or the window's.
    const bool inside = start + P::kTokens <= tile.first_position + tile.first_pair / group + 1 &&
                        (p.window == 0 || start >= first_seen(end_token - 1, p.window));
#pragma unroll
    for (int n = 0; n < 2 * P::kPieces; ++n) {
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const int token = start + n * 8 + 2 * t + e % 2, r = e / 2;
        const bool seen = inside || (token <= position[r] && (p.window == 0 || token > position[r] - p.window));
        scores[n][e] = seen ? scores[n][e] * p.scale_log2 : kMasked;
      }
    }
    attended.weigh(scores);
#pragma unroll
    for (int piece = 0; piece < P::kPieces; ++piece) {
      uint32_t weights[4];
      pack_weights<T>(scores[2 * piece], scores[2 * piece + 1], weights);
      add_values<T, dim>(weights, values + piece * kPiece, attended.out);
    }
    __syncthreads();  // before the other stage's memory is filled again
  }
  attended.finish();
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    if (tile.first_pair + warp * 16 + r * 8 + g >= tile.pairs) continue;
    const float inverse = __fdividef(1.0f, attended.sum[r]);
#pragma unroll
    for (int n = 0; n < dim / 8; ++n) {
      const uint32_t two = pack<T>(attended.out[n][2 * r] * inverse, attended.out[n][2 * r + 1] * inverse);
      *reinterpret_cast<uint32_t*>(out + at[r] + n * 8 + 2 * t) = two;
    }
  }
}

template <class T, int dim>
cudaError_t launch_prefill(const KernelContext& c, const AttentionArgs& a) {
  const PrefillParams p = prefill_params(a);
  const int group = a.heads / a.kv.kv_heads;
  const int tiles = static_cast<int>((static_cast<int64_t>(a.rows) * group + Plan<dim>::kRows - 1) / Plan<dim>::kRows) + a.seqs;
  return launch(prefill_kernel<T, dim>,
                {.grid = {static_cast<unsigned>(tiles), static_cast<unsigned>(a.kv.kv_heads)}, .block = Plan<dim>::kWarps * kWarp,
                 .dynamic_shared_bytes = Plan<dim>::kSharedBytes, .programmatic = c.programmatic},
                c.stream, p, static_cast<const T*>(a.q), static_cast<T*>(a.out));
}

}  // namespace

cudaError_t prefill_attention(const KernelContext& c, const AttentionArgs& a) {
  if (has_hopper_attention(c, a.kv.head_dim)) return hopper_prefill_attention(c, a);
  return with_element(a.type, [&](auto t) {
    using T = decltype(t);
    switch (a.kv.head_dim) {
      case 64: return launch_prefill<T, 64>(c, a);
      case 96: return launch_prefill<T, 96>(c, a);
      case 128: return launch_prefill<T, 128>(c, a);
      case 256: return launch_prefill<T, 256>(c, a);
      default: return cudaErrorInvalidValue;
    }
  });
}

}  // namespace pagemill::cuda
