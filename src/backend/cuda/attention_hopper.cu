// Paged prefill attention on sm_90a, head dimensions 64 and 128; attention_prefill.cu is the portable twin (and has the packing of rows
// and heads explained).
//
// Shapes: as there. A tile is 128 pairs (row, head of the group); two warpgroups of 64 compute, a warp of a third brings keys and values,
// 128 tokens a stage, two stages: a piece (16 tokens of a head, 4 KB at dim 128) is one bulk copy, already swizzled (kv_layout.h). The third
// warpgroup gives its registers to the others.
// Grid: (tiles, kv_heads), one block per multiprocessor at a time, longest contexts first.
// Within a warpgroup the next stage's scores are computed while the last one's values are added up and its softmax runs:
//   scores(i + 1) and values(i) are in the tensor cores' queue together, and the exponentials wait for the first only.
// The two warpgroups take turns at filling that queue (named barriers), so that one's softmax runs under the other's products.
// FLOPs: 4 · pairs · context · dim (half of that under the causal edge). Expected: 70 % of the GEMM rate at 8,192 rows.
#include "backend/cuda/attention_hopper.h"

#include "backend/cuda/attention_runs.h"
#include "backend/cuda/attention_tile.h"
#include "backend/cuda/swizzle.h"

namespace pagemill::cuda {
namespace {

#if PM_NVCC
constexpr int kTilePairs = 128, kStageTokens = 128, kStagePieces = kStageTokens / kPieceTokens, kStages = 2;
constexpr int kComputeThreads = 256, kThreads = kComputeThreads + 128;
constexpr int kTurnBarrier = 3;  // named barriers 3 and 4: the turns of the two warpgroups

template <int dim>
struct Plan {
  static constexpr int kPiece = kv_piece_bytes(dim), kStageBytes = kStagePieces * kPiece;  // of keys; values take as much
  static constexpr int kColumnBytes = 8 * kTileRowBytes;                                   // a group's 64 columns; the next 64 follow
  static constexpr int kGroupBytes = dim / 64 * kColumnBytes;                              // 8 tokens
  static constexpr int kQueryBytes = 64 * dim * 2;                                         // of one warpgroup
  static constexpr size_t kSharedBytes = size_t{2} * (kQueryBytes + kStages * kStageBytes);
};

struct Barriers {
  uint64_t keys_full[kStages], values_full[kStages], keys_free[kStages], values_free[kStages];
};

/// What a stage's pieces are.
struct StageRange {
  int first_block, pieces;
  __device__ StageRange(int first, int stage, int end_token) {
    first_block = first + stage * kStagePieces;
    pieces = min(kStagePieces, (end_token - first_block * kPieceTokens + kPieceTokens - 1) / kPieceTokens);
  }
};

/// The third warpgroup's first warp: lane i copies piece i of keys, or piece i − kStagePieces of values.
template <int dim>
__device__ void bring(const PrefillParams& p, const RunTile& tile, int kv_head, int first_block, int stages, int end_token, unsigned char* keys,
                      unsigned char* values, Barriers& barriers) {
  using P = Plan<dim>;
  const int lane = threadIdx.x % kWarp, piece = lane % kStagePieces;
  const bool of_values = lane >= kStagePieces;
  if (lane >= 2 * kStagePieces) return;
  const int32_t* table = p.block_table + static_cast<int64_t>(tile.seq) * p.table_stride;
  for (int stage = 0; stage < stages; ++stage) {
    const int slot = stage % kStages;
    const StageRange range(first_block, stage, end_token);
    const int block = ptx::load_i32(table + range.first_block + min(piece, range.pieces - 1));
    uint64_t* const full = of_values ? &barriers.values_full[slot] : &barriers.keys_full[slot];
    uint64_t* const free = of_values ? &barriers.values_free[slot] : &barriers.keys_free[slot];
    if (stage >= kStages) ptx::mbarrier_wait(free, (stage / kStages - 1) & 1);
    if (piece == 0) ptx::mbarrier_arrive_expecting(full, static_cast<uint32_t>(range.pieces) * P::kPiece);
    __syncwarp(((1u << kStagePieces) - 1) << (of_values ? kStagePieces : 0));  // the announcement comes first
    if (piece < range.pieces)
      ptx::bulk_copy((of_values ? values : keys) + slot * P::kStageBytes + piece * P::kPiece, p.kv + kv_piece_offset(p.kv_heads, dim, block, kv_head, of_values), P::kPiece, full);
  }
}

/// Softmax state of the two pairs that a lane holds.
struct Rows {
  float max[2] = {kMasked, kMasked}, sum[2] = {0, 0};
};

/// scores → weights; returns by how much what was before must shrink.
__device__ __forceinline__ void softmax(float (&s)[kStageTokens / 2], Rows& rows, float scale_log2, float (&shrink)[2]) {
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    float top = rows.max[r];
#pragma unroll
    for (int i = 0; i < kStageTokens / 8; ++i) top = fmaxf(top, fmaxf(s[4 * i + 2 * r], s[4 * i + 2 * r + 1]));
    top = fmaxf(top, __shfl_xor_sync(kAllLanes, top, 1));
    top = fmaxf(top, __shfl_xor_sync(kAllLanes, top, 2));
    shrink[r] = ptx::exp2_fast((rows.max[r] - top) * scale_log2);
    rows.max[r] = top;
    // While everything is masked the weights must come out as 0, not as exp2(0).
    const float offset = top == kMasked ? 0.0f : top * scale_log2;
    float sum = rows.sum[r] * shrink[r];
#pragma unroll
    for (int i = 0; i < kStageTokens / 8; ++i) {
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        float& weight = s[4 * i + 2 * r + e];
        weight = ptx::exp2_fast(fmaf(weight, scale_log2, -offset));
        sum += weight;
      }
    }
    rows.sum[r] = sum;
  }
}

template <class T, int dim>
__device__ void compute(const PrefillParams& p, const RunTile& tile, const T* q, T* out, int kv_head, int first_block, int stages, int end_token,
                        unsigned char* keys, unsigned char* values, Barriers& barriers) {
  using P = Plan<dim>;
  const int group_of_warps = threadIdx.x / 128, thread = threadIdx.x % 128, lane = threadIdx.x % kWarp, g = lane / 4, t = lane % 4;
  const int heads_per_kv = p.heads / p.kv_heads, first_pair = tile.first_pair + group_of_warps * 64;
  const auto offset_of = [&](int pair) {
    return (static_cast<int64_t>(tile.row_begin + pair / heads_per_kv) * p.heads + kv_head * heads_per_kv + pair % heads_per_kv) * dim;
  };
  int pair_of[2], position[2];
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    pair_of[r] = first_pair + thread / kWarp * 16 + g + 8 * r;
    position[r] = tile.first_position + min(pair_of[r], tile.pairs - 1) / heads_per_kv;
  }
  const int position_min = tile.first_position + tile.first_pair / heads_per_kv;  // of the tile
  // Queries: [dim / 64 columns][64 pairs][128 bytes].
  unsigned char* const queries = values + kStages * P::kStageBytes + group_of_warps * P::kQueryBytes;
#pragma unroll
  for (int i = 0; i < 64 * dim / 8 / 128; ++i) {
    const int item = i * 128 + thread, pair = item / (dim / 8), chunk = item % (dim / 8);
    const uint4 v = ptx::load_16(q + offset_of(min(first_pair + pair, tile.pairs - 1)) + chunk * 8);
    ptx::store_shared_16(queries + chunk / 8 * (64 * kTileRowBytes) + tile_chunk_offset(pair, chunk % 8), v);
  }
  ptx::fence_for_wgmma();
  ptx::barrier_sync(1 + group_of_warps, 128);
  const uint64_t query_tile = ptx::wgmma_tile(queries, kTileGroupBytes);
  float scores[kStageTokens / 2], sums[dim / 2];
  uint32_t weights[kStagePieces][4];
  Rows rows;
#pragma unroll
  for (int i = 0; i < dim / 2; ++i) sums[i] = 0;

  const auto start_scores = [&](int stage) {
    const int slot = stage % kStages;
    ptx::mbarrier_wait(&barriers.keys_full[slot], (stage / kStages) & 1);
    const uint64_t key_tile = ptx::wgmma_tile(keys + slot * P::kStageBytes, P::kGroupBytes);
    ptx::wgmma_fence();
#pragma unroll
    for (int k = 0; k < dim / 16; ++k)
      ptx::wgmma(scores, ptx::wgmma_advance(query_tile, k / 4 * (64 * kTileRowBytes) + k % 4 * 32), ptx::wgmma_advance(key_tile, k / 4 * P::kColumnBytes + k % 4 * 32), k, T{});
    ptx::wgmma_commit();
  };
  const auto start_values = [&](int stage) {
    const int slot = stage % kStages;
    ptx::mbarrier_wait(&barriers.values_full[slot], (stage / kStages) & 1);
    unsigned char* const tile_values = values + slot * P::kStageBytes;
    const StageRange range(first_block, stage, end_token);
    if (stage == stages - 1) {
      // Slots past the end may hold anything, infinities too, and 0 · infinity is not 0. Both warpgroups write the same zeros.
      const int last = range.pieces - 1, used = end_token - (range.first_block + last) * kPieceTokens;
      for (int item = thread; item < (kPieceTokens - used) * (dim / 8); item += 128)
        ptx::store_shared_16(tile_values + last * P::kPiece + kv_chunk_offset<dim>(used + item / (dim / 8), item % (dim / 8)), make_uint4(0, 0, 0, 0));
      for (int item = thread; item < (kStagePieces - range.pieces) * (P::kPiece / 16); item += 128)
        ptx::store_shared_16(tile_values + range.pieces * P::kPiece + item * 16, make_uint4(0, 0, 0, 0));
      ptx::fence_for_wgmma();
      ptx::barrier_sync(1 + group_of_warps, 128);
    }
    const uint64_t value_tile = ptx::wgmma_tile_transposed(tile_values, P::kColumnBytes, P::kGroupBytes);
    ptx::wgmma_fence();
#pragma unroll
    for (int piece = 0; piece < kStagePieces; ++piece)
      ptx::wgmma_a_registers(sums, weights[piece], ptx::wgmma_advance(value_tile, piece * P::kPiece), 1, T{});
    ptx::wgmma_commit();
  };
  const auto mask = [&](int stage) {
    const int start = (first_block + stage * kStagePieces) * kPieceTokens;
    if (start + kStageTokens <= position_min + 1 && (p.window == 0 || start >= first_seen(end_token - 1, p.window))) return;
#pragma unroll
    for (int i = 0; i < kStageTokens / 2; ++i) {
      const int token = start + i / 4 * 8 + 2 * t + i % 2, at = position[i / 2 % 2];
      if (!(token <= at && (p.window == 0 || token > at - p.window))) scores[i] = kMasked;
    }
  };
  const auto free_slot = [&](uint64_t* barrier) {
    if (lane == 0) ptx::mbarrier_arrive(barrier);
  };
  const auto keep_weights = [&] {
#pragma unroll
    for (int piece = 0; piece < kStagePieces; ++piece) {
#pragma unroll
      for (int i = 0; i < 4; ++i) weights[piece][i] = pack<T>(scores[8 * piece + 2 * i], scores[8 * piece + 2 * i + 1]);
    }
  };

  // Turns begin with warpgroup 0; each lets the other go once its products are in the queue.
  const auto wait_for_turn = [&] { ptx::barrier_sync(kTurnBarrier + group_of_warps, kComputeThreads); };
  const auto end_turn = [&](bool last) {
    if (!(last && group_of_warps == 1)) ptx::barrier_arrive(kTurnBarrier + 1 - group_of_warps, kComputeThreads);
  };
  if (group_of_warps == 1) ptx::barrier_arrive(kTurnBarrier, kComputeThreads);

  float shrink[2];
  wait_for_turn();
  start_scores(0);
  end_turn(stages == 1);
  ptx::wgmma_wait<0>();
  free_slot(&barriers.keys_free[0]);
  mask(0);
  softmax(scores, rows, p.scale_log2, shrink);
  keep_weights();
  for (int stage = 1; stage < stages; ++stage) {
    wait_for_turn();
    start_scores(stage);
    start_values(stage - 1);
    end_turn(stage + 1 == stages);
    ptx::wgmma_wait<1>();
    free_slot(&barriers.keys_free[stage % kStages]);
    mask(stage);
    softmax(scores, rows, p.scale_log2, shrink);
    ptx::wgmma_wait<0>();
    free_slot(&barriers.values_free[(stage - 1) % kStages]);
    // Once a context is long, a new largest score is rare: most stages leave the sums of all 16 rows as they are.
    if (__any_sync(kAllLanes, shrink[0] != 1.0f || shrink[1] != 1.0f)) {
#pragma unroll
      for (int i = 0; i < dim / 2; ++i) sums[i] *= shrink[i / 2 % 2];
    }
    keep_weights();
  }
  start_values(stages - 1);
  ptx::wgmma_wait<0>();

#pragma unroll
  for (int r = 0; r < 2; ++r) {
    float sum = rows.sum[r];
    sum += __shfl_xor_sync(kAllLanes, sum, 1);
    sum += __shfl_xor_sync(kAllLanes, sum, 2);
    if (pair_of[r] >= tile.pairs) continue;
    const float inverse = __fdividef(1.0f, sum);
    T* const to = out + offset_of(pair_of[r]);
#pragma unroll
    for (int i = 0; i < dim / 8; ++i)
      *reinterpret_cast<uint32_t*>(to + i * 8 + 2 * t) = pack<T>(sums[4 * i + 2 * r] * inverse, sums[4 * i + 2 * r + 1] * inverse);
  }
}

template <class T, int dim>
__global__ void __launch_bounds__(kThreads, 1) hopper_kernel(const PrefillParams p, const T* q, T* out) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  using P = Plan<dim>;
  PM_SHARED(barriers, Barriers);
  unsigned char* const keys = dynamic_shared<unsigned char>();
  unsigned char* const values = keys + kStages * P::kStageBytes;
  if (threadIdx.x == 0) {
    for (int i = 0; i < kStages; ++i) {
      ptx::mbarrier_init(&barriers.keys_full[i], 1);
      ptx::mbarrier_init(&barriers.values_full[i], 1);
      ptx::mbarrier_init(&barriers.keys_free[i], kComputeThreads / kWarp);
      ptx::mbarrier_init(&barriers.values_free[i], kComputeThreads / kWarp);
    }
    ptx::mbarrier_fence_init();
  }
  ptx::let_next_kernel_start();
  ptx::wait_for_previous_kernel();
  __syncthreads();
  const RunTile tile = find_run_tile(p, kTilePairs, gridDim.x - 1 - blockIdx.x);
  if (tile.seq < 0) return;
  const int group = p.heads / p.kv_heads, kv_head = blockIdx.y;
  const int last_pair = min(tile.first_pair + kTilePairs, tile.pairs) - 1;
  const int end_token = tile.first_position + last_pair / group + 1;
  const int first_block = first_seen(tile.first_position + tile.first_pair / group, p.window) / kPieceTokens;
  const int stages = (end_token - first_block * kPieceTokens + kStageTokens - 1) / kStageTokens;
  if (threadIdx.x >= kComputeThreads) {
    ptx::give_up_registers<24>();
    if (threadIdx.x < kComputeThreads + kWarp) bring<dim>(p, tile, kv_head, first_block, stages, end_token, keys, values, barriers);
  } else {
    ptx::take_registers<240>();
    compute<T, dim>(p, tile, q, out, kv_head, first_block, stages, end_token, keys, values, barriers);
  }
#endif
}

template <class T, int dim>
cudaError_t launch_hopper(const KernelContext& c, const AttentionArgs& a) {
  const int group = a.heads / a.kv.kv_heads;
  const auto tiles = static_cast<unsigned>((static_cast<int64_t>(a.rows) * group + kTilePairs - 1) / kTilePairs + a.seqs);
  return launch(hopper_kernel<T, dim>,
                {.grid = {tiles, static_cast<unsigned>(a.kv.kv_heads)}, .block = kThreads, .dynamic_shared_bytes = Plan<dim>::kSharedBytes, .programmatic = c.programmatic},
                c.stream, prefill_params(a), static_cast<const T*>(a.q), static_cast<T*>(a.out));
}
#endif

}  // namespace

bool has_hopper_attention(const KernelContext& c, int head_dim) { return PM_NVCC && c.arch == 90 && (head_dim == 64 || head_dim == 128); }

cudaError_t hopper_prefill_attention([[maybe_unused]] const KernelContext& c, [[maybe_unused]] const AttentionArgs& a) {
#if PM_NVCC
  return with_element(a.type, [&](auto t) {
    using T = decltype(t);
    return a.kv.head_dim == 64 ? launch_hopper<T, 64>(c, a) : launch_hopper<T, 128>(c, a);
  });
#else
  return cudaErrorInvalidValue;  // the emulated device is no sm_90a
#endif
}

}  // namespace pagemill::cuda
