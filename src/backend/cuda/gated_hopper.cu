// silu(x · gateᵀ) · (x · upᵀ) for many rows on sm_90a: one product instead of two and a pass over both.
//
// Shapes: x [M, K], gate, up [ffn, K]. A tile is 128 rows of x by `width` weight rows, the first half of gate and the second the same rows of
//   up: a thread's accumulators then hold both values of an output, columns n and n + width / 2.
// Grid: clusters of two blocks, one block a multiprocessor; a cluster takes 256 rows of x, a block 128 of them, and every weight tile is copied once
//   for both (rank 0 brings gate's half, rank 1 up's). Clusters walk through tiles c, c + clusters, …, bands of kBand · 256 rows wide, so that
//   x and the weights of a wave lie in L2. `width` is 192 or 256, whichever leaves fewer multiprocessors idle in the last round: at 256 rows of
//   Qwen2.5-7B 198 tiles of 192 are three rounds of 66 clusters.
// A block: a warpgroup whose one thread brings tiles (TMA, 64 of k a stage, 4 or 5 stages), two that multiply (wgmma, 64 rows each).
// The first weights are on their way before the previous kernel has ended.
// FLOPs: 4 · M · ffn · K. Expected: cuBLASLt's rate on the product alone, without the 6 · M · ffn bytes that gate, up and SiLU moved beside it.
#include "backend/cuda/kernels.h"

#if PM_NVCC
#include "backend/cuda/ptx_hopper_wide.h"
#include "backend/cuda/tensor_map.h"
#endif
#include "backend/cuda/device_math.h"
#include "backend/cuda/swizzle.h"

namespace pagemill::cuda {
namespace {

constexpr int kTileRows = 128, kStep = 64, kCluster = 2, kBand = 8;
constexpr int kComputeGroups = 2, kGroupThreads = 128, kThreads = (1 + kComputeGroups) * kGroupThreads;

template <int width>
struct Plan {
  static constexpr int kStages = width == 256 ? 4 : 5;
  static constexpr int kXBytes = kTileRows * kTileRowBytes, kHalfBytes = width / 2 * kTileRowBytes, kStageBytes = kXBytes + 2 * kHalfBytes;
  static constexpr size_t kSharedBytes = size_t{kStages} * kStageBytes;
};

/// The order of tiles: bands of row pairs, in a band column after column.
struct Tiles {
  int pairs, columns;  // of 256 rows of x; of width / 2 outputs
  __host__ __device__ int count() const { return pairs * columns; }
  struct Place {
    int pair, column;
  };
  __host__ __device__ Place at(int tile) const {
    const int band = tile / (kBand * columns), first = band * kBand, height = min(kBand, pairs - first), inside = tile - first * columns;
    return {first + inside % height, inside / height};
  }
};

#if PM_NVCC
template <int stages>
struct Barriers {
  uint64_t full[stages], free[stages];
};

/// Four words a lane, of the four lanes that share a row: lane t gets word t of each.
__device__ __forceinline__ void transpose_words(uint32_t (&w)[4], int t) {
#pragma unroll
  for (int i = 0; i < 4; i += 2) {
    const uint32_t got = __shfl_xor_sync(kAllLanes, t % 2 == 0 ? w[i + 1] : w[i], 1);
    (t % 2 == 0 ? w[i + 1] : w[i]) = got;
  }
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const uint32_t got = __shfl_xor_sync(kAllLanes, t < 2 ? w[i + 2] : w[i], 2);
    (t < 2 ? w[i + 2] : w[i]) = got;
  }
}

template <int width>
__device__ __forceinline__ void bring(const CUtensorMap& x, const CUtensorMap& gate, const CUtensorMap& up, unsigned char* shared, Barriers<Plan<width>::kStages>& barriers, const Tiles& tiles,
                                      int steps, int cluster, int clusters, int rank) {
  using P = Plan<width>;
  int first_row = 0, first_output = 0;  // of the tile; found once for each, for a division takes as long as a copy's turn
  const auto find_tile = [&](int tile) {
    const Tiles::Place place = tiles.at(tile);
    first_row = (place.pair * kCluster + rank) * kTileRows;
    first_output = place.column * (width / 2);
  };
  const auto weights = [&](int stage, int step) {
    ptx::mbarrier_arrive_expecting(&barriers.full[stage], P::kStageBytes);
    unsigned char* const to = shared + stage * P::kStageBytes + P::kXBytes;
    if (rank == 0) {
      ptx::tensor_copy_to((1 << kCluster) - 1, to, gate, step * kStep, first_output, &barriers.full[stage]);
    } else {
      ptx::tensor_copy_to((1 << kCluster) - 1, to + P::kHalfBytes, up, step * kStep, first_output, &barriers.full[stage]);
    }
  };
  const auto rows = [&](int stage, int step) { ptx::tensor_copy(shared + stage * P::kStageBytes, x, step * kStep, first_row, &barriers.full[stage]); };
  // Weights first, before the previous kernel has ended; then the x that belongs to them.
  const int ahead = min(P::kStages, steps);
  find_tile(cluster);
  for (int step = 0; step < ahead; ++step) weights(step, step);
  ptx::wait_for_previous_kernel();
  for (int step = 0; step < ahead; ++step) rows(step, step);
  int stage = ahead % P::kStages, parity = ahead == P::kStages ? 0 : 1, first_step = ahead;
  for (int tile = cluster; tile < tiles.count(); tile += clusters, first_step = 0) {
    if (tile != cluster) find_tile(tile);
    for (int step = first_step; step < steps; ++step) {
      ptx::mbarrier_wait(&barriers.free[stage], parity);
      weights(stage, step);
      rows(stage, step);
      if (++stage == P::kStages) {
        stage = 0;
        parity ^= 1;
      }
    }
  }
}

template <class T, int width>
__device__ __forceinline__ void compute(T* out, int row_count, int ffn, unsigned char* shared, Barriers<Plan<width>::kStages>& barriers, const Tiles& tiles, int steps,
                                        int cluster, int clusters, int rank) {
  using P = Plan<width>;
  const int group = threadIdx.x / kGroupThreads - 1, thread = threadIdx.x % kGroupThreads, lane = thread % kWarp, g = lane / 4, t = lane % 4;
  // One thread of the warpgroup tells each block's producer.
  const auto free_stage = [&](int stage) {
    if (thread % kWarp == 0 && thread / kWarp < kCluster) ptx::mbarrier_arrive_at(&barriers.free[stage], thread / kWarp);
  };
  int stage = 0, parity = 0;
  for (int tile = cluster; tile < tiles.count(); tile += clusters) {
    float d[width / 2];
    int before = 0;
    for (int step = 0; step < steps; ++step) {
      ptx::mbarrier_wait(&barriers.full[stage], parity);
      const unsigned char* const from = shared + stage * P::kStageBytes;
      const uint64_t a = ptx::wgmma_tile(from + group * (64 * kTileRowBytes), kTileGroupBytes), b = ptx::wgmma_tile(from + P::kXBytes, kTileGroupBytes);
      ptx::wgmma_fence();
#pragma unroll
      for (int k = 0; k < kStep / 16; ++k) ptx::wgmma(d, ptx::wgmma_advance(a, k * 32), ptx::wgmma_advance(b, k * 32), step + k, T{});
      ptx::wgmma_commit();
      if (step > 0) {
        ptx::wgmma_wait<1>();
        free_stage(before);
      }
      before = stage;
      if (++stage == P::kStages) {
        stage = 0;
        parity ^= 1;
      }
    }
    ptx::wgmma_wait<0>();
    free_stage(before);

    // d[4 · i + e]: row g + 8 · (e / 2), column 8 · i + 2 · t + e % 2. Four lanes exchange theirs, so that each stores 16 bytes.
    const Tiles::Place place = tiles.at(tile);
    const int first_row = (place.pair * kCluster + rank) * kTileRows + group * 64 + thread / kWarp * 16 + g, first_column = place.column * (width / 2);
    constexpr int kUp = width / 4;  // registers from a gate value to its up value
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const int row = first_row + 8 * r;
#pragma unroll
      for (int i = 0; i < width / 16; i += 4) {
        uint32_t words[4];
#pragma unroll
        for (int j = 0; j < 4; ++j) {
          float value[2];
#pragma unroll
          for (int e = 0; e < 2; ++e) {
            const int at = 4 * (i + j) + 2 * r + e;
            // Rounded first, as a product that stores gate and up would.
            const float gate = to_float(from_float<T>(d[at])), up = to_float(from_float<T>(d[at + kUp]));
            value[e] = to_float(from_float<T>(silu(gate))) * up;
          }
          words[j] = pack<T>(value[0], value[1]);
        }
        transpose_words(words, t);
        const int column = first_column + (i + t) * 8;
        if (row < row_count && column < ffn) ptx::store_16(out + static_cast<int64_t>(row) * ffn + column, make_uint4(words[0], words[1], words[2], words[3]));
      }
    }
  }
}

template <class T, int width>
__global__ void __launch_bounds__(kThreads, 1) gated_kernel(const __grid_constant__ CUtensorMap x, const __grid_constant__ CUtensorMap gate, const __grid_constant__ CUtensorMap up,
                                                            T* out, int row_count, int ffn, int steps, const Tiles tiles) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  using P = Plan<width>;
  PM_SHARED(barriers, Barriers<P::kStages>);
  unsigned char* const shared = dynamic_shared<unsigned char>();
  const int rank = static_cast<int>(ptx::cluster_rank()), cluster = blockIdx.x / kCluster, clusters = gridDim.x / kCluster;
  if (threadIdx.x == 0) {
    for (int i = 0; i < P::kStages; ++i) {
      ptx::mbarrier_init(&barriers.full[i], 1);
      ptx::mbarrier_init(&barriers.free[i], kCluster * kComputeGroups);
    }
    ptx::mbarrier_fence_init();
    ptx::prefetch_tensor_map(x);
    ptx::prefetch_tensor_map(gate);
    ptx::prefetch_tensor_map(up);
  }
  ptx::cluster_arrive();
  ptx::cluster_wait();  // nobody copies to a block whose barriers are not there yet
  ptx::let_next_kernel_start();
  if (threadIdx.x < kGroupThreads) {
    ptx::give_up_registers<40>();
    if (threadIdx.x == 0) bring<width>(x, gate, up, shared, barriers, tiles, steps, cluster, clusters, rank);
    __syncwarp();
  } else {
    ptx::take_registers<232>();
    compute<T, width>(out, row_count, ffn, shared, barriers, tiles, steps, cluster, clusters, rank);
    __syncwarp();
  }
  ptx::cluster_arrive();
  ptx::cluster_wait();  // nobody leaves while the other block may still signal its barriers
#endif
}
#endif

/// How a product is cut, and what share of the multiprocessors' time is spent on outputs that exist.
struct Cut {
  int width;
  Tiles tiles;
  double used;
};
[[maybe_unused]] Cut choose_cut(int rows, int ffn, int multiprocessors) {
  Cut best{0, {}, -1};
  const int clusters = multiprocessors / kCluster, pairs = (rows + kCluster * kTileRows - 1) / (kCluster * kTileRows);
  for (const int width : {256, 192}) {
    const Tiles tiles{pairs, (ffn + width / 2 - 1) / (width / 2)};
    const int rounds = (tiles.count() + clusters - 1) / clusters;
    const double used = static_cast<double>(rows) * ffn / (static_cast<double>(rounds) * clusters * (kCluster * kTileRows) * (width / 2));
    if (used > best.used + 0.01) best = {width, tiles, used};
  }
  return best;
}

#if PM_NVCC
template <class T, int width>
cudaError_t launch_width(const KernelContext& c, const GatedArgs& a, const Tiles& tiles) {
  CUtensorMap x, gate, up;
  cudaError_t error = make_tensor_map(x, a.type, a.x, a.rows, a.in, kTileRows);
  if (error == cudaSuccess) error = make_tensor_map(gate, a.type, a.gate, a.ffn, a.in, width / 2);
  if (error == cudaSuccess) error = make_tensor_map(up, a.type, a.up, a.ffn, a.in, width / 2);
  if (error != cudaSuccess) return error;
  const int clusters = min(c.multiprocessors / kCluster, tiles.count());
  return launch(gated_kernel<T, width>,
                {.grid = static_cast<unsigned>(clusters * kCluster), .block = kThreads, .dynamic_shared_bytes = Plan<width>::kSharedBytes, .cluster = kCluster, .programmatic = c.programmatic},
                c.stream, x, gate, up, static_cast<T*>(a.out), a.rows, a.ffn, (a.in + kStep - 1) / kStep, tiles);
}
#endif

}  // namespace

bool has_gated_many([[maybe_unused]] const KernelContext& c, [[maybe_unused]] int rows, [[maybe_unused]] int ffn) {
#if PM_NVCC
  constexpr double kWorthIt = 0.8;
  return c.arch == 90 && !c.deterministic && rows > kTileRows && choose_cut(rows, ffn, c.multiprocessors).used >= kWorthIt && tensor_map_encoder() != nullptr;
#else
  return false;
#endif
}

cudaError_t gated_many([[maybe_unused]] const KernelContext& c, [[maybe_unused]] const GatedArgs& a) {
#if PM_NVCC
  if (a.rows <= 0 || a.in <= 0 || a.in % 8 != 0 || a.ffn % 8 != 0) return cudaErrorInvalidValue;
  const Cut cut = choose_cut(a.rows, a.ffn, c.multiprocessors);
  return with_element(a.type, [&](auto t) {
    using T = decltype(t);
    return cut.width == 256 ? launch_width<T, 256>(c, a, cut.tiles) : launch_width<T, 192>(c, a, cut.tiles);
  });
#else
  return cudaErrorInvalidValue;  // the emulated device is no sm_90a
#endif
}

}  // namespace pagemill::cuda
