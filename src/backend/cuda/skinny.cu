// Matrix products for 1 … 64 rows, bound by reading the weights: plain, gate · up · SiLU, and QKV + RoPE + KV store.
//
// Shapes: x [M, K] (K a multiple of 8), weights [N, K]; M is padded to 8, 16, 32 or 64 columns of mma.sync, whose 16 rows are
// weight rows (a "unit", skinny_ops.h), so that at M = 1 the tensor cores do the dot products for free. A tile is 2 units.
// Grid: as many blocks as fit on the multiprocessors at once, two on each where shared memory allows. The work is the sequence of (tile, chunk of 512 of k), cut into equal
//   runs, one per block ("stream-K"): a tile that is cut is added up by the block that ends it last, in the order of k. Short products
//   have one tile per block instead, of one unit at M = 1.
//   Within a chunk each of the 8 warps takes a turn of 64; their sums meet in shared memory in a fixed order.
// The stream: a warp copies (cp.async) whole lines, 128 bytes of 4 rows at a time, into a ring that it alone reads. So its loads run
//   ahead without any barrier of the block, also across tiles. Each 16 bytes land where the lane that feeds them to the tensor
//   cores reads 16 bytes at once, conflict-free, without ldmatrix: a sum over k may pair k in any order, so in a turn of 32
//   lane 4·g + t takes elements 8·t … 8·t + 7 of row g, for weights and x alike, and calls them k = 2·t, 2·t + 1, 2·t + 8, 2·t + 9
//   of two products.
// x: a single row of up to 7,168 elements is kept in shared memory: each warp copies the turns that it takes once per launch, into the room
//   that sums of one column leave of those of eight. More rows, or a longer one, do not fit beside the ring: they are read once per tile.
// Bytes: the weights once (2·N·K) and x from L2, once per block where it is kept (K·2 · blocks), else once per tile (M·K·2 · N / 32). 192 KB are in flight per multiprocessor on sm_90
//   (3 stages, 112 KB a block), the first before the previous kernel has ended (programmatic launch); 2 stages in 80 KB a block
//   elsewhere: 128 KB in flight on sm_80, 64 KB where a block may use 99 KB (sm_86, 89, 120), several times bandwidth · latency there.
//   Expected: 95 % of the read bandwidth from 200 MB on at M ≤ 8.
// Order of sums: by k within a warp, by warp, by run. Deterministic mode cuts no tile, so that it is the same for every M.
#include "backend/cuda/skinny_hopper.h"
#include "backend/cuda/skinny_ops.h"

namespace pagemill::cuda {
namespace {

constexpr int kWarps = 8;
constexpr int kTurn = 64;                          // elements of k that a warp takes at a time: 128 bytes of each row
constexpr int kTurnBytes = kTurn * 2;
constexpr int kSliceBytes = kWarp * 16;            // what one copy instruction of a warp brings
constexpr int kChunkTurns = kWarps;                // a chunk: one turn of every warp

/// Where in a slice of half `half` of a turn stand the 16 bytes that `lane` reads: the 8 lanes that copy a line at once fill 4 places of
/// either half's slice, in different banks.
__host__ __device__ constexpr int place_of(int lane, int half) { return lane ^ half * 4; }

/// Stages of the ring where a block may use 227 KB (sm_90 to sm_110), and everywhere else. What an architecture does not launch is not
/// compiled for it.
constexpr int kManyStages = 3, kPortableStages = 2;
__host__ __device__ constexpr bool compiled_for([[maybe_unused]] int stages) {
#ifdef __CUDA_ARCH__
  return (__CUDA_ARCH__ >= 900 && __CUDA_ARCH__ < 1200) == (stages == kManyStages);
#else
  return true;
#endif
}

/// `keeps_x`: of a single row of x, in the room of its sums' other columns. Blocks stay as large as without it.
template <int units, int stages, bool keeps_x = false>
struct Ring {
  static constexpr int kSlices = 4 * units;        // rows g and g + 8 of each unit, two halves of 32
  static constexpr int kStages = stages;
  static constexpr int kWarpBytes = kStages * kSlices * kSliceBytes;
  static constexpr int kSumColumns = keeps_x ? 1 : 8;
  static constexpr int kSumFloats = units * kUnitRows * kSumColumns;  // of one warp
  static constexpr size_t kSumBytes = 2 * kWarps * kSumFloats * sizeof(float);
  static constexpr size_t kXBytes = (8 - kSumColumns) * kSumBytes / kSumColumns;
  static constexpr int kXTurns = static_cast<int>(kXBytes) / (kWarps * kTurnBytes);  // of each warp
  static constexpr size_t kSharedBytes = size_t{kWarps} * kWarpBytes + kSumBytes + kXBytes;
  /// Where a warp puts its sum of column m and row n of the tile. Its lanes write 8 rows of columns 0, 2, 4, 6 or 1, 3, 5, 7 and read
  /// 8 rows of both units of columns 2·i and 2·i + 1 at once: the swizzle puts either into 32 banks.
  __host__ __device__ static constexpr int sum_at(int m, int n) { return m * (units * kUnitRows) + (n ^ ((m / 2 ^ m % 2) * 8 % (units * kUnitRows))); }
  static_assert(stages != kPortableStages || kSharedBytes + 1024 <= kPortableSharedBytes);  // static variables and alignment beside it

  /// How many blocks a multiprocessor holds at once; each takes 1 KB for itself.
  static int blocks_at_once(const KernelContext& c) {
    return max(1, min(units == 1 ? 4 : 2, static_cast<int>((c.block_shared_bytes + 1024) / (kSharedBytes + 1024))));
  }
};

/// The work, cut into one run of chunks per block. Everything about it is arithmetic without 64-bit divisions: a block's first load waits for it.
struct Work {
  int tiles, chunks;   // chunks of one tile; tiles · chunks < 2^31
  int blocks;
  int grain;           // runs are made of whole grains: 1 chunk, or a tile's
  int share, longer;   // grains of a run; the first `longer` runs have one more

  __host__ __device__ static Work make(int tiles, int chunks, int blocks, bool whole_tiles) {
    const int grain = whole_tiles ? chunks : 1, grains = whole_tiles ? tiles : tiles * chunks;
    return {tiles, chunks, blocks, grain, grains / blocks, grains % blocks};
  }
  __host__ __device__ int run_begin(int block) const { return (block * share + min(block, longer)) * grain; }
  /// The run that holds chunk `at`.
  __host__ __device__ int block_of(int at) const {
    const int index = at / grain, border = longer * (share + 1);
    return index < border ? index / (share + 1) : longer + (index - border) / share;
  }
};

/// The sums of a tile that several runs share, one slot for the first and one for the last tile of a run: [blocks, 2, units · 16, columns · 8].
template <int units, int columns>
constexpr int kSlotFloats = units * kUnitRows * columns * 8;

template <class T, class Op, int units, int columns, int stages, bool keeps_x>
__global__ void __launch_bounds__(kWarps * kWarp, units == 1 ? (stages == kManyStages ? 4 : 3) : columns <= 2 ? 2 : 1)
    skinny_kernel(const Op op, const T* x, int rows, int in, const Work work, float* partial, int* arrived) {
  if constexpr (!compiled_for(stages)) return ptx::trap();
  using R = Ring<units, stages, keeps_x>;
  static_assert(!keeps_x || columns == 1);
  PM_SHARED(last_to_arrive, int);
  unsigned char* const shared = dynamic_shared<unsigned char>();
  const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp, g = lane / 4, t = lane % 4;
  unsigned char* const ring = shared + warp * R::kWarpBytes;
  const int line = lane / 8, chunk_of_line = lane % 8;  // this lane copies 16 bytes of rows line, line + 4, …
  float* const sums = reinterpret_cast<float*>(shared + kWarps * R::kWarpBytes);
  const int begin = work.run_begin(blockIdx.x), end = work.run_begin(blockIdx.x + 1), first_tile = begin / work.chunks;

  // --- Loads, R::kStages turns ahead -------------------------------------------------------------------------------------------
  int ahead = begin, ahead_tile = first_tile, ahead_chunk = begin - first_tile * work.chunks;
  const T* row[units][4];
  const auto find_rows = [&] {
#pragma unroll
    for (int u = 0; u < units; ++u) {
#pragma unroll
      for (int i = 0; i < 4; ++i) row[u][i] = op.row(ahead_tile * units + u, i * 4 + line) + 8 * chunk_of_line;
    }
  };
  if (ahead < end) find_rows();
  const auto load_turn = [&](int stage) {
    if (ahead < end) {
      unsigned char* const to = ring + stage * (R::kSlices * kSliceBytes);
      const int k = (ahead_chunk * kChunkTurns + warp) * kTurn;
      const bool inside = k + 8 * chunk_of_line < in;
#pragma unroll
      for (int u = 0; u < units; ++u) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const int slice = u * 4 + i / 2 * 2 + chunk_of_line / 4, reader = (i % 2 * 4 + line) * 4 + chunk_of_line % 4;
          ptx::cp_async_16_once(to + slice * kSliceBytes + place_of(reader, chunk_of_line / 4) * 16, inside ? row[u][i] + k : row[u][i] - 8 * chunk_of_line, inside ? 16 : 0);
        }
      }
      ++ahead;
      if (++ahead_chunk == work.chunks) {
        ahead_chunk = 0;
        ++ahead_tile;
        if (ahead < end) find_rows();
      }
    }
    ptx::cp_async_commit();
  };
#pragma unroll
  for (int stage = 0; stage < R::kStages; ++stage) load_turn(stage);

  ptx::let_next_kernel_start();
  ptx::wait_for_previous_kernel();

  // --- Products ------------------------------------------------------------------------------------------------------------------
  unsigned char* const kept = shared + kWarps * R::kWarpBytes + R::kSumBytes + warp * (R::kXTurns * kTurnBytes);  // x of this warp's turns, if it is kept
  if constexpr (keeps_x) {
    constexpr int kPieces = kTurnBytes / 16, kRounds = (R::kXTurns * kPieces + kWarp - 1) / kWarp;
    uint4 piece[kRounds];
#pragma unroll
    for (int i = 0; i < kRounds; ++i) {
      const int at = i * kWarp + lane, k = (at / kPieces * kChunkTurns + warp) * kTurn + at % kPieces * 8;
      piece[i] = k < in ? ptx::load_16(x + k) : make_uint4(0, 0, 0, 0);
    }
#pragma unroll
    for (int i = 0; i < kRounds; ++i) {
      if (i * kWarp + lane < R::kXTurns * kPieces) ptx::store_shared_16(kept + (i * kWarp + lane) * 16, piece[i]);  // read after a turn's first __syncwarp
    }
  }
  const auto load_x = [&](int chunk, uint4 (&to)[columns][2]) {
    if constexpr (keeps_x) {
#pragma unroll
      for (int h = 0; h < 2; ++h) to[0][h] = g == 0 ? ptx::load_shared_16(kept + chunk * kTurnBytes + h * 64 + t * 16) : make_uint4(0, 0, 0, 0);
    } else {
#pragma unroll
      for (int c = 0; c < columns; ++c) {
#pragma unroll
        for (int h = 0; h < 2; ++h) {
          const int m = c * 8 + g, k = (chunk * kChunkTurns + warp) * kTurn + h * 32 + 8 * t;
          to[c][h] = m < rows && k < in ? ptx::load_16(x + static_cast<int64_t>(m) * in + k) : make_uint4(0, 0, 0, 0);
        }
      }
    }
  };
  int stage = 0, buffer = 0;
  uint4 now[columns][2];
  int at = begin, tile = first_tile, first_chunk = begin - first_tile * work.chunks;
  if (!keeps_x && at < end) load_x(first_chunk, now);
  for (; at < end; ++tile, first_chunk = 0) {
    const int last_chunk = min(work.chunks, first_chunk + end - at);
    float c[units][columns][4] = {};
    for (int chunk = first_chunk; chunk < last_chunk; ++chunk) {
      ptx::cp_async_wait<R::kStages - 1>();
      __syncwarp();
      const unsigned char* const from = ring + stage * (R::kSlices * kSliceBytes);
      uint4 w[units][2][2];
#pragma unroll
      for (int u = 0; u < units; ++u) {
#pragma unroll
        for (int r = 0; r < 2; ++r) {
#pragma unroll
          for (int h = 0; h < 2; ++h) w[u][r][h] = ptx::load_shared_16(from + (u * 4 + r * 2 + h) * kSliceBytes + place_of(lane, h) * 16);
        }
      }
      __syncwarp();  // all lanes have read before the slots are filled again
      load_turn(stage);
      stage = stage + 1 == R::kStages ? 0 : stage + 1;
      uint4 after[columns][2];
      const int following = chunk + 1 < work.chunks ? chunk + 1 : 0;
      if constexpr (keeps_x) load_x(chunk, now);
      else if constexpr (columns <= 2) load_x(following, after);
#pragma unroll
      for (int col = 0; col < columns; ++col) {
#pragma unroll
        for (int h = 0; h < 2; ++h) {
#pragma unroll
          for (int u = 0; u < units; ++u) {
            ptx::mma_16816(c[u][col], {w[u][0][h].x, w[u][1][h].x, w[u][0][h].y, w[u][1][h].y}, {now[col][h].x, now[col][h].y}, T{});
            ptx::mma_16816(c[u][col], {w[u][0][h].z, w[u][1][h].z, w[u][0][h].w, w[u][1][h].w}, {now[col][h].z, now[col][h].w}, T{});
          }
        }
      }
      if constexpr (columns > 2) {
        load_x(following, now);
      } else if constexpr (!keeps_x) {
#pragma unroll
        for (int col = 0; col < columns; ++col) {
          now[col][0] = after[col][0];
          now[col][1] = after[col][1];
        }
      }
    }
    at += last_chunk - first_chunk;
    const bool whole = first_chunk == 0 && last_chunk == work.chunks;
    float* const slot = partial + (static_cast<int64_t>(blockIdx.x) * 2 + (tile * work.chunks <= work.run_begin(blockIdx.x) ? 0 : 1)) * kSlotFloats<units, columns>;

    // --- The warps' sums, 8 columns at a time; two buffers, so that one barrier a time is enough --------------------------------------
#pragma unroll
    for (int col = 0; col < columns; ++col) {
      float* const mine = sums + (buffer * kWarps + warp) * R::kSumFloats;
      const int here = min(rows - col * 8, 8);
      if (2 * t < here) {  // the others hold columns that do not exist
#pragma unroll
        for (int u = 0; u < units; ++u) {
#pragma unroll
          for (int e = 0; e < 4; e += keeps_x ? 2 : 1) ptx::store_shared_f32(mine + R::sum_at(2 * t + e % 2, u * kUnitRows + g + e / 2 * 8), c[u][col][e]);
        }
      }
      __syncthreads();
      for (int item = threadIdx.x; item < units * 8 * here; item += kWarps * kWarp) {
        const int j = item % 8, u = item / 8 % units, m = item / (8 * units);
        const float* const from = sums + buffer * (kWarps * R::kSumFloats);
        const int at_low = R::sum_at(m, u * kUnitRows + j), at_high = R::sum_at(m, u * kUnitRows + 8 + j);
        float low = 0, high = 0;
#pragma unroll
        for (int v = 0; v < kWarps; ++v) {
          low += ptx::load_shared_f32(from + v * R::kSumFloats + at_low);
          high += ptx::load_shared_f32(from + v * R::kSumFloats + at_high);
        }
        if (whole) {
          op.emit(tile * units + u, j, col * 8 + m, low, high);
        } else {
          slot[((col * 8 + m) * units + u) * kUnitRows + j] = low;
          slot[((col * 8 + m) * units + u) * kUnitRows + 8 + j] = high;
        }
      }
      buffer ^= 1;
    }
    if (whole) continue;

    // --- A tile that was cut: whoever completes it adds its runs up ----------------------------------------------------------------------
    __threadfence();
    __syncthreads();
    if (threadIdx.x == 0) {
      const int chunks = last_chunk - first_chunk;
      last_to_arrive = atomicAdd(arrived + tile, chunks) == work.chunks - chunks;
      if (last_to_arrive) arrived[tile] = 0;
    }
    __syncthreads();
    if (!last_to_arrive) continue;
    __threadfence();
    const int tile_begin = tile * work.chunks;
    const int first_run = work.block_of(tile_begin), last_run = work.block_of(tile_begin + work.chunks - 1);
    for (int item = threadIdx.x; item < units * 8 * rows; item += kWarps * kWarp) {
      const int j = item % 8, u = item / 8 % units, m = item / (8 * units);
      float low = 0, high = 0;
      for (int run = first_run; run <= last_run; ++run) {
        const int which = work.run_begin(run) >= tile_begin ? 0 : 1;  // it began in this tile, or in one before
        const float* from = partial + (static_cast<int64_t>(run) * 2 + which) * kSlotFloats<units, columns> + (m * units + u) * kUnitRows + j;
        low += ptx::load_f32(from);
        high += ptx::load_f32(from + 8);
      }
      op.emit(tile * units + u, j, m, low, high);
    }
  }
}

constexpr int kBlocksMax = 2 * 256;   // of a launch that cuts tiles, on any device
constexpr int kTilesMax = 64 * 1024;  // of one that may: counters are kept for so many
constexpr size_t kCounterBytes = size_t{kTilesMax} * sizeof(int);

/// How the work is cut. Adding up a cut tile costs some 3 µs at the end: where every tile can have a block of its own at once, and
/// K is short, none is cut.
template <class R>
Work plan_work(const KernelContext& c, int units, int units_of_op, int turns) {
  const int tiles = (units_of_op + units - 1) / units, chunks = (turns + kChunkTurns - 1) / kChunkTurns, each = R::blocks_at_once(c), at_once = each * c.multiprocessors;
  const bool whole_tiles = c.deterministic || c.product_workspace == nullptr || tiles > kTilesMax || (tiles <= at_once && chunks <= 16);
  return Work::make(tiles, chunks, whole_tiles ? min(tiles, at_once) : min(min(min(each, 2) * c.multiprocessors, kBlocksMax), tiles * chunks), whole_tiles);
}

template <class T, class Op, int units, int columns, int stages, bool keeps_x>
cudaError_t launch_stages(const KernelContext& c, const Op& op, const T* x, int rows, int in) {
  using R = Ring<units, stages, keeps_x>;
  const int turns = (in + kTurn - 1) / kTurn;
  const Work work = plan_work<R>(c, units, op.units(), turns);
  auto* const arrived = static_cast<int*>(c.product_workspace);
  auto* const partial = reinterpret_cast<float*>(static_cast<unsigned char*>(c.product_workspace) + kCounterBytes);
  return launch(skinny_kernel<T, Op, units, columns, stages, keeps_x>,
                {.grid = static_cast<unsigned>(work.blocks), .block = kWarps * kWarp, .dynamic_shared_bytes = R::kSharedBytes, .programmatic = c.programmatic},
                c.stream, op, x, rows, in, work, partial, arrived);
}

template <class T, class Op, int units, int columns, bool keeps_x = false>
cudaError_t launch_skinny(const KernelContext& c, const Op& op, const T* x, int rows, int in) {
  // By the device, not by c.arch: with --cuda-arch 80 a Hopper runs what is compiled for it.
  if (c.block_shared_bytes >= kHopperSharedBytes) return launch_stages<T, Op, units, columns, kManyStages, keeps_x>(c, op, x, rows, in);
  return launch_stages<T, Op, units, columns, kPortableStages, keeps_x>(c, op, x, rows, in);
}

/// Elements of a row that is kept in shared memory.
constexpr int kKeptMax = Ring<2, kPortableStages, true>::kXTurns * kChunkTurns * kTurn;
static_assert(kKeptMax == Ring<2, kManyStages, true>::kXTurns * kChunkTurns * kTurn);

template <class T, class Op>
cudaError_t run(const KernelContext& c, const Op& op, const T* x, int rows, int in) {
  if (rows >= kHopperRowsMin && c.arch == 90 && PM_NVCC && !c.deterministic) return hopper_product(c, op, x, rows);
  // A single row's short products are bound by latency: smaller tiles, more blocks.
  if (rows == 1 && op.units() <= 3 * c.multiprocessors && in <= 8192) return launch_skinny<T, Op, 1, 1>(c, op, x, rows, in);
  if (rows == 1 && in <= kKeptMax && c.keep_row) return launch_skinny<T, Op, 2, 1, true>(c, op, x, rows, in);
  if (rows <= 8) return launch_skinny<T, Op, 2, 1>(c, op, x, rows, in);
  if (rows <= 16) return launch_skinny<T, Op, 2, 2>(c, op, x, rows, in);
  if (rows <= 32) return launch_skinny<T, Op, 2, 4>(c, op, x, rows, in);
  return launch_skinny<T, Op, 2, 8>(c, op, x, rows, in);
}

/// Calls f(first row, rows) for as many launches as it takes.
template <class F>
cudaError_t in_parts(int rows, F f) {
  for (int begin = 0; begin < rows; begin += kSkinnyRows) {
    const cudaError_t error = f(begin, min(rows - begin, kSkinnyRows));
    if (error != cudaSuccess) return error;
  }
  return cudaSuccess;
}

bool bad_shape(int rows, int in) { return rows < 0 || in <= 0 || in % 8 != 0; }

}  // namespace

size_t product_workspace_bytes() { return kCounterBytes + size_t{kBlocksMax} * 2 * kSlotFloats<2, 8> * sizeof(float); }

int skinny_rows_max(const KernelContext& c, Product product) {
  return product != Product::qkv && c.arch == 90 && PM_NVCC && !c.deterministic ? 32 : kSkinnyRows;
}

cudaError_t linear_skinny(const KernelContext& c, const LinearArgs& a) {
  if (bad_shape(a.rows, a.in)) return cudaErrorInvalidValue;
  return with_element(a.type, [&](auto t) {
    using T = decltype(t);
    return in_parts(a.rows, [&](int begin, int rows) {
      const int64_t offset = static_cast<int64_t>(begin) * a.out_features;
      const PlainOp<T> op{static_cast<const T*>(a.weight), a.bias, a.residual == nullptr ? nullptr : static_cast<const T*>(a.residual) + offset,
                          a.out_f32 ? nullptr : static_cast<T*>(a.out) + offset, a.out_f32 ? static_cast<float*>(a.out) + offset : nullptr,
                          a.in, a.out_features};
      return run<T>(c, op, static_cast<const T*>(a.x) + static_cast<int64_t>(begin) * a.in, rows, a.in);
    });
  });
}

cudaError_t gated_skinny(const KernelContext& c, const GatedArgs& a) {
  if (bad_shape(a.rows, a.in) || a.ffn % 8 != 0) return cudaErrorInvalidValue;
  return with_element(a.type, [&](auto t) {
    using T = decltype(t);
    return in_parts(a.rows, [&](int begin, int rows) {
      const GatedOp<T> op{static_cast<const T*>(a.gate), static_cast<const T*>(a.up), static_cast<T*>(a.out) + static_cast<int64_t>(begin) * a.ffn, a.in, a.ffn};
      return run<T>(c, op, static_cast<const T*>(a.x) + static_cast<int64_t>(begin) * a.in, rows, a.in);
    });
  });
}

cudaError_t qkv_skinny(const KernelContext& c, const QkvArgs& a) {
  if (bad_shape(a.rows, a.in) || a.kv.head_dim % 16 != 0) return cudaErrorInvalidValue;
  return with_element(a.type, [&](auto t) {
    using T = decltype(t);
    const int half = a.kv.head_dim / 2;
    return in_parts(a.rows, [&](int begin, int rows) {
      QkvOp<T> op{{}, {}, a.angles + static_cast<int64_t>(begin) * half, a.slots + begin, static_cast<T*>(a.q) + static_cast<int64_t>(begin) * a.heads * a.kv.head_dim,
                  static_cast<unsigned char*>(a.kv.base), a.in, a.heads, a.kv.kv_heads, a.kv.head_dim};
      for (int i = 0; i < 3; ++i) {
        op.weight[i] = static_cast<const T*>(a.weight[i]);
        op.bias[i] = a.bias[i];
      }
      return run<T>(c, op, static_cast<const T*>(a.x) + static_cast<int64_t>(begin) * a.in, rows, a.in);
    });
  });
}

}  // namespace pagemill::cuda
