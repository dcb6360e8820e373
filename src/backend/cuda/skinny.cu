// Matrix products for 1 … 64 rows, bound by reading the weights: plain, gate · up · SiLU, and QKV + RoPE + KV store.
//
// Shapes: x [M, K] (K a multiple of 8), weights [N, K]; M is padded to 8, 16, 32 or 64 columns of mma.sync, whose 16 rows are
// weight rows (a "unit", skinny_ops.h), so that at M = 1 the tensor cores do the dot products for free.
// Grid: at most two blocks per multiprocessor, all resident at once; block b takes tiles (1, 2 or 4 units) b, b + grid, …
//   The 8 warps of a block split K in turns of 64; their sums meet in shared memory in a fixed order.
// The stream: a warp copies (cp.async) whole lines, 128 bytes of 4 rows at a time, into a ring that it alone reads. So its loads run
//   ahead without any barrier of the block, also across tiles. Each 16 bytes land where the lane that feeds them to the tensor
//   cores reads 16 bytes at once, conflict-free, without ldmatrix: a sum over k may pair k in any order, so in a turn of 32
//   lane 4·g + t takes elements 8·t … 8·t + 7 of row g, for weights and x alike, and calls them k = 2·t, 2·t + 1, 2·t + 8, 2·t + 9
//   of two products.
// Bytes: the weights once (2·N·K) and x once per block from L2 (M·K·2 · N / tile rows). 96 KB are in flight per multiprocessor,
//   and before the previous kernel has ended already (programmatic launch). Expected: 90 % of the read bandwidth for M ≤ 16.
// Order of sums: by k within a warp, then by warp: the same for every M, so a row does not depend on the others.
#include "backend/cuda/skinny_hopper.h"
#include "backend/cuda/skinny_ops.h"

namespace pagemill::cuda {
namespace {

constexpr int kWarps = 8;
constexpr int kTurn = 64;                          // elements of k that a warp takes at a time: 128 bytes of each row
constexpr int kSliceBytes = kWarp * 16;            // what one copy instruction of a warp brings
#ifndef PM_ONE
#define PM_ONE 2
#endif
#ifndef PM_BPS
#define PM_BPS 2
#endif
#ifndef PM_STAGES
#define PM_STAGES 3
#endif
constexpr int kBlocksPerMultiprocessor = PM_BPS;

template <int units>
struct Ring {
  static constexpr int kSlices = 4 * units;        // rows g and g + 8 of each unit, two halves of 32
  static constexpr int kStages = PM_STAGES;
  static constexpr int kWarpBytes = kStages * kSlices * kSliceBytes;
  static constexpr int kSumFloats = units * kUnitRows * 8;            // of one warp and 8 columns
  static constexpr size_t kSharedBytes = size_t{kWarps} * kWarpBytes + 2 * kWarps * kSumFloats * sizeof(float);
};

/// The walk over (tile, turn) pairs of one warp, in order; used once for the loads and once, later, for the products.
struct Walk {
  int tile, turn;
  __device__ bool next(int warp, int turns, int tiles, int step) {
    turn += kWarps;
    if (turn < turns) return true;
    turn = warp;
    tile += step;
    return tile < tiles;
  }
};

template <class T, class Op, int units, int columns>
__global__ void __launch_bounds__(kWarps * kWarp, columns <= 2 ? 4 / units : 1)
    skinny_kernel(const Op op, const T* x, int rows, int in, int turns, int tiles) {
  using R = Ring<units>;
  unsigned char* const shared = dynamic_shared<unsigned char>();
  const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp, g = lane / 4, t = lane % 4;
  unsigned char* const ring = shared + warp * R::kWarpBytes;
  const int line = lane / 8, chunk = lane % 8;  // this lane copies chunk `chunk` of rows line, line + 4, …
  float* const sums = reinterpret_cast<float*>(shared + kWarps * R::kWarpBytes);
  const int tile_step = gridDim.x;

  // --- Loads, R::kStages turns ahead -------------------------------------------------------------------------------------------
  Walk ahead{static_cast<int>(blockIdx.x), warp};
  bool more = warp < turns && ahead.tile < tiles;
  const T* row[units][4];
  const auto find_rows = [&](int tile) {
#pragma unroll
    for (int u = 0; u < units; ++u) {
#pragma unroll
      for (int i = 0; i < 4; ++i) row[u][i] = op.row(tile * units + u, i * 4 + line) + 8 * chunk;
    }
  };
  if (more) find_rows(ahead.tile);
  const auto load_turn = [&](int stage) {
    if (more) {
      unsigned char* to = ring + stage * (R::kSlices * kSliceBytes);
      const int k = ahead.turn * kTurn;
      const bool inside = k + 8 * chunk < in;
#pragma unroll
      for (int u = 0; u < units; ++u) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const int slice = u * 4 + i / 2 * 2 + chunk / 4, place = (i % 2 * 4 + line) * 4 + chunk % 4;
          ptx::cp_async_16_once(to + (slice * kWarp + place) * 16, inside ? row[u][i] + k : row[u][i] - 8 * chunk, inside ? 16 : 0);
        }
      }
      const int tile = ahead.tile;
      more = ahead.next(warp, turns, tiles, tile_step);
      if (more && ahead.tile != tile) find_rows(ahead.tile);
    }
    ptx::cp_async_commit();
  };
#pragma unroll
  for (int stage = 0; stage < R::kStages; ++stage) load_turn(stage);

  ptx::let_next_kernel_start();
  ptx::wait_for_previous_kernel();

  // --- Products ------------------------------------------------------------------------------------------------------------------
  const auto load_x = [&](int turn, uint4 (&to)[columns][2]) {
#pragma unroll
    for (int c = 0; c < columns; ++c) {
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        const int m = c * 8 + g, k = turn * kTurn + h * 32 + 8 * t;
        to[c][h] = m < rows && k < in ? ptx::load_16(x + static_cast<int64_t>(m) * in + k) : make_uint4(0, 0, 0, 0);
      }
    }
  };
  int stage = 0, buffer = 0;
  uint4 now[columns][2];
  if (warp < turns) load_x(warp, now);
  for (int tile = blockIdx.x; tile < tiles; tile += tile_step) {
    float c[units][columns][4] = {};
    for (int turn = warp; turn < turns; turn += kWarps) {
      ptx::cp_async_wait<R::kStages - 1>();
      __syncwarp();
      const unsigned char* from = ring + stage * (R::kSlices * kSliceBytes) + lane * 16;
      uint4 w[units][2][2];
#pragma unroll
      for (int u = 0; u < units; ++u) {
#pragma unroll
        for (int r = 0; r < 2; ++r) {
#pragma unroll
          for (int h = 0; h < 2; ++h) w[u][r][h] = ptx::load_shared_16(from + (u * 4 + r * 2 + h) * kSliceBytes);
        }
      }
      __syncwarp();  // all lanes have read before the slots are filled again
      load_turn(stage);
      stage = stage + 1 == R::kStages ? 0 : stage + 1;
      uint4 after[columns][2];
      const int following = turn + kWarps < turns ? turn + kWarps : warp;
      if constexpr (columns <= 2) load_x(following, after);
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
      if constexpr (columns <= 2) {
#pragma unroll
        for (int col = 0; col < columns; ++col) {
          now[col][0] = after[col][0];
          now[col][1] = after[col][1];
        }
      } else {
        load_x(following, now);
      }
    }

    // --- The warps' sums, 8 columns at a time; two buffers, so that one barrier a time is enough --------------------------------------
#pragma unroll
    for (int col = 0; col < columns; ++col) {
      float* const mine = sums + (buffer * kWarps + warp) * R::kSumFloats;
#pragma unroll
      for (int u = 0; u < units; ++u) {
        float2* at = reinterpret_cast<float2*>(mine + u * (kUnitRows * 8) + g * 8 + 2 * t);
        at[0] = make_float2(c[u][col][0], c[u][col][1]);
        at[8 * 8 / 2] = make_float2(c[u][col][2], c[u][col][3]);
      }
      __syncthreads();
      const int here = min(rows - col * 8, 8);
      for (int item = threadIdx.x; item < units * 8 * here; item += kWarps * kWarp) {
        const int j = item % 8, u = item / 8 % units, m = item / (8 * units);
        const float* from = sums + buffer * (kWarps * R::kSumFloats) + u * (kUnitRows * 8) + j * 8 + m;
        float low = 0, high = 0;
#pragma unroll
        for (int v = 0; v < kWarps; ++v) {
          low += from[v * R::kSumFloats];
          high += from[v * R::kSumFloats + 64];
        }
        op.emit(tile * units + u, j, col * 8 + m, low, high);
      }
      buffer ^= 1;
    }
  }
}

template <class T, class Op, int units, int columns>
cudaError_t launch_skinny(const KernelContext& c, const Op& op, const T* x, int rows, int in) {
  const int tiles = (op.units() + units - 1) / units, turns = (in + kTurn - 1) / kTurn;
  const int slots = c.multiprocessors * (columns <= 2 ? kBlocksPerMultiprocessor : 1);
  const int rounds = (tiles + slots - 1) / slots;
#ifdef PM_NOSHRINK
  const int grid = min(tiles, slots);
#else
  const int grid = (tiles + rounds - 1) / rounds;
#endif
  return launch(skinny_kernel<T, Op, units, columns>,
                {.grid = static_cast<unsigned>(grid), .block = kWarps * kWarp, .dynamic_shared_bytes = Ring<units>::kSharedBytes, .programmatic = c.programmatic},
                c.stream, op, x, rows, in, turns, tiles);
}

template <class T, class Op>
cudaError_t run(const KernelContext& c, const Op& op, const T* x, int rows, int in) {
  if (rows >= kHopperRowsMin && skinny_rows_max(c) == kHopperRowsMax) return hopper_product(c, op, x, rows);
  if (rows <= PM_ONE) return launch_skinny<T, Op, 1, 1>(c, op, x, rows, in);
  if (rows <= 8) return launch_skinny<T, Op, 2, 1>(c, op, x, rows, in);
  if (rows <= 16) return launch_skinny<T, Op, 2, 2>(c, op, x, rows, in);
  if (rows <= 32) return launch_skinny<T, Op, 4, 4>(c, op, x, rows, in);
  return launch_skinny<T, Op, 2, 8>(c, op, x, rows, in);
}

/// Calls f(first row, rows) for as many launches as it takes.
template <class F>
cudaError_t in_parts(const KernelContext& c, int rows, F f) {
  const int most = skinny_rows_max(c);
  for (int begin = 0; begin < rows; begin += most) {
    const cudaError_t error = f(begin, min(rows - begin, most));
    if (error != cudaSuccess) return error;
  }
  return cudaSuccess;
}

bool bad_shape(int rows, int in) { return rows < 0 || in <= 0 || in % 8 != 0; }

}  // namespace

int skinny_rows_max(const KernelContext& c) { return c.arch == 90 && PM_NVCC && !c.deterministic ? kHopperRowsMax : 64; }

cudaError_t linear_skinny(const KernelContext& c, const LinearArgs& a) {
  if (bad_shape(a.rows, a.in)) return cudaErrorInvalidValue;
  return with_element(a.type, [&](auto t) {
    using T = decltype(t);
    return in_parts(c, a.rows, [&](int begin, int rows) {
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
    return in_parts(c, a.rows, [&](int begin, int rows) {
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
    return in_parts(c, a.rows, [&](int begin, int rows) {
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
