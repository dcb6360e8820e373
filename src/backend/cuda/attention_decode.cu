// Paged attention of single rows (decode): the group of query heads that share a KV head is the 16 rows of mma.sync, so that each
// key and value is read once for all of them.
//
// Shapes: q, out [rows, heads · dim], dim 64, 96, 128 or 256, any group size (16 heads at a time), KV in pieces of 16 tokens.
// Grid: (splits, kv_heads · ⌈group / 16⌉, rows) blocks of 4 warps (2 at dim 256). A split is a run of KV blocks; each warp takes every
//   4th of them, with three in flight of its own (cp.async), and no barrier until the warps' results are put together.
// Splits fill the device where rows · kv_heads do not; the block that ends last adds them up, in their order, so the result
//   does not depend on which one that was. Deterministic mode: 8 splits of a row's own context, whatever the others have.
// Bytes: the rows' keys and values once: tokens · kv_heads · dim · 4. Expected: 85 % of the read bandwidth from 200 MB on.
#include "backend/cuda/attention_tile.h"

namespace pagemill::cuda {
namespace {

constexpr int kStages = 3;
constexpr int kDeterministicSplits = 8;
constexpr int kDeterministicRows = 64;      // rows of a launch there: bounds the workspace
constexpr int kSplitsMax = 64;

template <int dim>
struct Plan {
  static constexpr int kWarps = dim > 128 ? 2 : 4;
  static constexpr int kPiece = kv_piece_bytes(dim);
  static constexpr int kWarpBytes = kStages * 2 * kPiece;
  static constexpr size_t kSharedBytes = size_t{kWarps} * kWarpBytes;
  static constexpr int kPartialFloats = 16 * dim;     // of one warp, in the same memory afterwards
  static_assert(kPartialFloats * sizeof(float) <= kWarpBytes && 16 * kSplitsMax * sizeof(float) <= kSharedBytes);
};

struct DecodeParams {
  const unsigned char* kv;
  const int32_t* block_table;
  const int32_t *positions, *seq_of_row, *row_begin;
  float* partial;          // [rows, heads, splits, dim]
  float2* partial_state;   // [rows, heads, splits] max and sum
  int* arrived;            // [rows, kv_heads · head tiles], zero between launches
  int table_stride, rows, heads, kv_heads, window, blocks_per_split;  // blocks_per_split 0 = a share of the row's own
  float scale_log2;
  bool only_single_rows;   // leave rows of longer runs to prefill_attention
  bool rows_are_seqs;      // row r is the only one of sequence r
};

/// The KV blocks [first, last) of a split of the row at `position`.
struct BlockRange {
  int first, last;
};
__host__ __device__ inline BlockRange split_range(int position, int window, int split, int splits, int blocks_per_split) {
  const int begin = first_seen(position, window) / kPieceTokens, end = position / kPieceTokens + 1;
  const int each = blocks_per_split > 0 ? blocks_per_split : (end - begin + splits - 1) / splits;
  const int first = begin + split * each, last = first + each;
  return {min(first, end), min(last, end)};
}

template <int dim>
__device__ void load_pieces(unsigned char* to, const unsigned char* from, int block, int first_token, int end_token, int lane) {
  constexpr int kChunks = Plan<dim>::kPiece / 16;
  const int start = block * kPieceTokens;
#pragma unroll
  for (int i = 0; i < 2 * kChunks / kWarp; ++i) {
    const int chunk = i * kWarp + lane;  // keys and values lie behind each other
    const int token = start + kv_token_of_chunk(dim, chunk % kChunks);
    ptx::cp_async_16(to + chunk * 16, from + chunk * 16, token >= first_token && token < end_token ? 16 : 0);
  }
}

/// Where a warp's result for dimension d of row h stands: four rows of 8 dimensions, which a warp writes at once, lie in different banks.
__host__ __device__ constexpr int swizzled(int h, int d) { return d ^ h % 4 * 8; }

/// Puts the warps' results together: out[h, d] (or the split's partial) from each warp's max, sum and unnormalised output.
template <class T, int dim>
__device__ void combine_warps(const float* outs, const float2* states, int heads_here, T* out, float* partial, float2* partial_state, int splits) {
  constexpr int kWarps = Plan<dim>::kWarps;
  for (int item = threadIdx.x; item < heads_here * dim; item += kWarps * kWarp) {
    const int h = item / dim, d = item % dim;
    float top = kMasked;
#pragma unroll
    for (int w = 0; w < kWarps; ++w) top = fmaxf(top, states[w * 16 + h].x);
    float sum = 0, value = 0;
#pragma unroll
    for (int w = 0; w < kWarps; ++w) {
      const float share = ptx::exp2_fast(states[w * 16 + h].x - top);
      sum += states[w * 16 + h].y * share;
      value += ptx::load_shared_f32(outs + w * Plan<dim>::kPartialFloats + h * dim + swizzled(h, d)) * share;
    }
    if (splits == 1) {
      out[item] = from_float<T>(value / sum);
    } else {
      partial[static_cast<int64_t>(h) * splits * dim + d] = value;
      if (d == 0) partial_state[h * splits] = make_float2(top, sum);
    }
  }
}

/// Each warp takes heads in turn: its lanes read the splits' states at once, then run through the splits, whose loads do not wait for each other.
template <class T, int dim>
__device__ void combine_splits(const float* partial, const float2* state, int heads_here, int splits, T* out, float* shares) {
  const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
  for (int h = warp; h < heads_here; h += Plan<dim>::kWarps) {
    float2 mine[kSplitsMax / kWarp];
    float top = kMasked;
#pragma unroll
    for (int i = 0; i < kSplitsMax / kWarp; ++i) {
      const int s = i * kWarp + lane;
      mine[i] = s < splits ? __ldcg(state + h * splits + s) : make_float2(kMasked, 0.0f);
      top = fmaxf(top, mine[i].x);
    }
#pragma unroll
    for (int distance = 16; distance > 0; distance /= 2) top = fmaxf(top, __shfl_xor_sync(kAllLanes, top, distance));
    float sum = 0;
#pragma unroll
    for (int i = 0; i < kSplitsMax / kWarp; ++i) {
      const float share = ptx::exp2_fast(mine[i].x - top);
      sum += mine[i].y * share;
      shares[h * kSplitsMax + i * kWarp + lane] = share;
    }
    sum = warp_sum(sum);
    __syncwarp();
    const float inverse = __fdividef(1.0f, sum);
    for (int d = lane * 2; d < dim; d += 2 * kWarp) {
      float2 value = make_float2(0, 0);
#pragma unroll 8
      for (int s = 0; s < splits; ++s) {
        const float2 part = __ldcg(reinterpret_cast<const float2*>(partial + (static_cast<int64_t>(h) * splits + s) * dim + d));
        const float share = shares[h * kSplitsMax + s];
        value.x += part.x * share;
        value.y += part.y * share;
      }
      *reinterpret_cast<uint32_t*>(out + h * dim + d) = pack<T>(value.x * inverse, value.y * inverse);
    }
  }
}

template <class T, int dim>
__global__ void __launch_bounds__(Plan<dim>::kWarps* kWarp) decode_kernel(const DecodeParams p, const T* q, T* out) {
  using P = Plan<dim>;
  PM_SHARED(states, float2[P::kWarps * 16]);
  PM_SHARED(last_to_arrive, int);
  unsigned char* const shared = dynamic_shared<unsigned char>();
  ptx::let_next_kernel_start();
  // Positions, tables and the blocks before the row's own are older than the kernel ahead (embed() sees to that): only the row's
  // own block and its query are not.
  const int row = blockIdx.z, splits = gridDim.x, split = blockIdx.x;
  const int position = ptx::load_i32(p.positions + row);
  // In a pure decode step the rows are the sequences.
  const int seq = p.rows_are_seqs ? row : ptx::load_i32(p.seq_of_row + row);
  if (position < 0 || (p.only_single_rows && ptx::load_i32(p.row_begin + seq + 1) - ptx::load_i32(p.row_begin + seq) > 1)) {
    ptx::wait_for_previous_kernel();
    return;
  }
  const int group = p.heads / p.kv_heads, head_tiles = (group + 15) / 16;
  const int kv_head = blockIdx.y / head_tiles, head_tile = blockIdx.y % head_tiles;
  const int head = kv_head * group + head_tile * 16, heads_here = min(16, group - head_tile * 16);
  const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp, g = lane / 4, t = lane % 4;

  const BlockRange range = split_range(position, p.window, split, splits, p.blocks_per_split);
  const int first_token = first_seen(position, p.window), end_token = position + 1;
  const int32_t* table = p.block_table + static_cast<int64_t>(seq) * p.table_stride;
  unsigned char* const ring = shared + warp * P::kWarpBytes;
  const auto load = [&](int block, int stage) {
    if (block < range.last) {
      const int physical = ptx::load_i32(table + block);
      load_pieces<dim>(ring + stage * 2 * P::kPiece, p.kv + kv_piece_offset(p.kv_heads, dim, physical, kv_head, 0), block, first_token, end_token, lane);
    }
    ptx::cp_async_commit();
  };
  int ahead = range.first + warp;
  const int own_block = p.rows_are_seqs ? position / kPieceTokens : 0;  // what must wait: with runs of rows, everything
  bool waited = false;
#pragma unroll
  for (int stage = 0; stage < kStages; ++stage, ahead += P::kWarps) {
    if (!waited && ahead >= own_block) {
      ptx::wait_for_previous_kernel();
      waited = true;
    }
    load(ahead, stage);
  }
  if (!waited) ptx::wait_for_previous_kernel();

  const T* queries = q + static_cast<int64_t>(row) * p.heads * dim + head * dim;
  uint32_t a[dim / 16][4];
  load_queries<T, dim>(g < heads_here ? queries + g * dim : nullptr, g + 8 < heads_here ? queries + (g + 8) * dim : nullptr, a);

  Attended<dim> attended;
  int stage = 0;
  for (int block = range.first + warp; block < range.last; block += P::kWarps, ahead += P::kWarps) {
    ptx::cp_async_wait<kStages - 1>();
    __syncwarp();
    const unsigned char* keys = ring + stage * 2 * P::kPiece;
    float scores[2][4] = {};
    score_piece<T, dim>(a, keys, scores);
#pragma unroll
    for (int n = 0; n < 2; ++n) {
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const int token = block * kPieceTokens + n * 8 + 2 * t + e % 2;
        scores[n][e] = token >= first_token && token < end_token ? scores[n][e] * p.scale_log2 : kMasked;
      }
    }
    attended.weigh(scores);
    uint32_t weights[4];
    pack_weights<T>(scores[0], scores[1], weights);
    add_values<T, dim>(weights, keys + P::kPiece, attended.out);
    __syncwarp();  // all lanes have read before the slot is filled again
    load(ahead, stage);
    stage = stage + 1 == kStages ? 0 : stage + 1;
  }
  attended.finish();
  ptx::cp_async_wait<0>();
  __syncthreads();

  float* const outs = reinterpret_cast<float*>(shared);
  float* const mine = outs + warp * P::kPartialFloats;
#pragma unroll
  for (int n = 0; n < dim / 8; ++n) {
    const int d = swizzled(g, n * 8 + 2 * t);  // of row g + 8 too
    ptx::store_shared_8(mine + g * dim + d, make_float2(attended.out[n][0], attended.out[n][1]));
    ptx::store_shared_8(mine + (g + 8) * dim + d, make_float2(attended.out[n][2], attended.out[n][3]));
  }
  if (t == 0) {
    states[warp * 16 + g] = make_float2(attended.max[0], attended.sum[0]);
    states[warp * 16 + g + 8] = make_float2(attended.max[1], attended.sum[1]);
  }
  __syncthreads();

  T* const result = out + static_cast<int64_t>(row) * p.heads * dim + head * dim;
  const int64_t first_state = (static_cast<int64_t>(row) * p.heads + head) * splits;
  combine_warps<T, dim>(outs, states, heads_here, result, p.partial + (first_state + split) * dim, p.partial_state + first_state + split, splits);
  if (splits == 1) return;
  __threadfence();
  __syncthreads();
  if (threadIdx.x == 0) {
    int* arrived = p.arrived + row * gridDim.y + blockIdx.y;
    last_to_arrive = atomicAdd(arrived, 1) == splits - 1;
    if (last_to_arrive) *arrived = 0;
  }
  __syncthreads();
  if (!last_to_arrive) return;
  __threadfence();
  combine_splits<T, dim>(p.partial + first_state * dim, p.partial_state + first_state, heads_here, splits, result, reinterpret_cast<float*>(shared));
}

template <class F>
cudaError_t with_dim(int dim, F f) {
  switch (dim) {
    case 64: return f(std::integral_constant<int, 64>{});
    case 96: return f(std::integral_constant<int, 96>{});
    case 128: return f(std::integral_constant<int, 128>{});
    case 256: return f(std::integral_constant<int, 256>{});
    default: return cudaErrorInvalidValue;
  }
}

/// A launch with splits has at most so many blocks, on any device (or, in deterministic mode, so many rows).
constexpr int kSplitBlocksMax = 256;
int64_t counters_max(int heads) { return (std::max<int64_t>(int64_t{kDeterministicRows} * heads, kSplitBlocksMax) + 63) / 64 * 64; }
int64_t partials_max(int heads) {
  return std::max<int64_t>(int64_t{kDeterministicRows} * heads * kDeterministicSplits, int64_t{kSplitBlocksMax} * 16);
}

int choose_splits(const KernelContext& c, const AttentionArgs& a, int tiles) {
  if (c.deterministic) return kDeterministicSplits;
  const int context = a.window > 0 ? min(a.context_max, a.window + kPieceTokens) : a.context_max;
  const int blocks = (context + kPieceTokens - 1) / kPieceTokens;
  // One block a multiprocessor keeps enough in flight; more would only leave more to put together.
  const int fill = min(c.multiprocessors, kSplitBlocksMax) / (a.rows * tiles), useful = (blocks + 3) / 4;
  return max(1, min(min(fill, useful), kSplitsMax));
}

cudaError_t launch_rows(const KernelContext& c, const AttentionArgs& a, int begin, int rows) {
  const int group = a.heads / a.kv.kv_heads, tiles = a.kv.kv_heads * ((group + 15) / 16), splits = choose_splits(c, a, tiles);
  auto* arrived = static_cast<int*>(a.workspace);
  auto* state = reinterpret_cast<float2*>(arrived + counters_max(a.heads));
  auto* partial = reinterpret_cast<float*>(state + partials_max(a.heads));
  const DecodeParams p{static_cast<const unsigned char*>(a.kv.base), a.block_table, a.positions + begin, a.seq_of_row + begin, a.row_begin,
                       partial, state, arrived, a.table_stride, rows, a.heads, a.kv.kv_heads, a.window, 0, a.scale * kLog2E,
                       a.query_rows_max > 1 && !c.deterministic, a.query_rows_max <= 1 && begin == 0};
  return with_element(a.type, [&](auto t) {
    using T = decltype(t);
    return with_dim(a.kv.head_dim, [&](auto dim) {
      constexpr int D = decltype(dim)::value;
      const int64_t offset = static_cast<int64_t>(begin) * a.heads * D;
      return launch(decode_kernel<T, D>,
                    {.grid = {static_cast<unsigned>(splits), static_cast<unsigned>(tiles), static_cast<unsigned>(rows)},
                     .block = Plan<D>::kWarps * kWarp, .dynamic_shared_bytes = Plan<D>::kSharedBytes, .programmatic = c.programmatic},
                    c.stream, p, static_cast<const T*>(a.q) + offset, static_cast<T*>(a.out) + offset);
    });
  });
}

}  // namespace

size_t attention_workspace_bytes(int heads, int head_dim) {
  return static_cast<size_t>(counters_max(heads) * 4 + partials_max(heads) * (8 + 4 * int64_t{head_dim}));
}

cudaError_t decode_attention(const KernelContext& c, const AttentionArgs& a) {
  const int step = c.deterministic ? kDeterministicRows : 32768;
  for (int begin = 0; begin < a.rows; begin += step) {
    const cudaError_t error = launch_rows(c, a, begin, min(step, a.rows - begin));
    if (error != cudaSuccess) return error;
  }
  return cudaSuccess;
}

cudaError_t attention(const KernelContext& c, const AttentionArgs& a) {
  if (a.rows == 0) return cudaSuccess;
  if (a.query_rows_max <= 1 || c.deterministic) return decode_attention(c, a);
  const cudaError_t error = prefill_attention(c, a);
  // Rows that may be single: sequences beside the one with the most rows.
  return error != cudaSuccess || a.seqs <= 1 ? error : decode_attention(c, a);
}

}  // namespace pagemill::cuda
