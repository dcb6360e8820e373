// Matrix products for 9 … 64 rows on sm_90a, still bound by reading the weights; skinny.cu is the portable twin.
//
// Shapes: x [M, K] (M padded to 32 or 64), weights [N, K]. A tile is 128 weight rows (8 units of skinny_ops.h): two warpgroups
// of 64, whose wgmma has the weights as A and x as B, both from shared memory.
// Grid: clusters of 1 to 4, 6 or 8 blocks, two blocks per multiprocessor; a cluster takes tiles c, c + clusters, …; its blocks split K, and each
//   adds up a share of the tile's sums over the cluster's shared memories, in the order of k. So few tiles still fill the device.
// The stream: stages of 64 of k (16 KB of weights and M · 128 bytes of x), copied by cp.async into swizzled tiles; the first weights are
//   on their way before the previous kernel has ended.
// Bytes: the weights once (2·N·K) and x from L2 once per tile (M / 128 of that). Expected: 85 % of the read bandwidth.
#include "backend/cuda/skinny_hopper.h"

#include <algorithm>

#include "backend/cuda/skinny_ops.h"
#include "backend/cuda/swizzle.h"

namespace pagemill::cuda {
namespace {

constexpr int kThreads = 256, kTileRows = 128, kStep = 64;
constexpr int kUnits = kTileRows / kUnitRows;

template <int columns>
struct Plan {
  static constexpr int kStages = columns == 32 ? 4 : 3;
  static constexpr int kWeightBytes = kTileRows * kTileRowBytes, kStageBytes = kWeightBytes + columns * kTileRowBytes;
  static constexpr int kSumStride = kTileRows + 4;                       // floats from one column to the next; the 4 spread the banks
  static constexpr size_t kSharedBytes = size_t{kStages} * kStageBytes + size_t{columns} * kSumStride * sizeof(float);
  static constexpr int kResident = 2;                                    // blocks of a multiprocessor
};

#if PM_NVCC
template <class T, class Op, int columns>
__global__ void __launch_bounds__(kThreads, Plan<columns>::kResident)
    hopper_kernel(const Op op, const T* x, int rows, int in, int steps, int tiles) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  using P = Plan<columns>;
  unsigned char* const shared = dynamic_shared<unsigned char>();
  float* const sums = reinterpret_cast<float*>(shared + P::kStages * P::kStageBytes);
  const int splits = static_cast<int>(ptx::cluster_blocks()), rank = static_cast<int>(ptx::cluster_rank());
  const int first_step = steps * rank / splits, my_steps = steps * (rank + 1) / splits - first_step;
  const int cluster = blockIdx.x / splits, clusters = gridDim.x / splits;
  const int chunk = threadIdx.x % 8, line = threadIdx.x / 8;  // this thread copies chunk `chunk` of rows line, line + 32, …

  // --- Loads ---------------------------------------------------------------------------------------------------------------------
  constexpr int kWeightLines = kTileRows / 32, kXLines = columns / 32;
  int load_tile = cluster, load_step = 0;
  const T* weight_row[kWeightLines];
  const auto find_rows = [&] {
#pragma unroll
    for (int i = 0; i < kWeightLines; ++i) {
      const int row = line + i * 32;
      weight_row[i] = op.row(load_tile * kUnits + row / kUnitRows, row % kUnitRows) + chunk * 8;
    }
  };
  if (load_tile < tiles) find_rows();
  const auto load_weights = [&](int stage) {
    const int k = (first_step + load_step) * kStep;
    const bool inside = k + chunk * 8 < in;
    unsigned char* const to = shared + stage * P::kStageBytes;
#pragma unroll
    for (int i = 0; i < kWeightLines; ++i)
      ptx::cp_async_16_once(to + tile_chunk_offset(line + i * 32, chunk), inside ? weight_row[i] + k : weight_row[i] - chunk * 8, inside ? 16 : 0);
  };
  const auto load_x = [&](int stage, int step) {
    const int k = (first_step + step) * kStep + chunk * 8;
    unsigned char* const to = shared + stage * P::kStageBytes + P::kWeightBytes;
#pragma unroll
    for (int i = 0; i < kXLines; ++i) {
      const int row = line + i * 32;
      const bool inside = row < rows && k < in;
      ptx::cp_async_16(to + tile_chunk_offset(row, chunk), inside ? x + static_cast<int64_t>(row) * in + k : x, inside ? 16 : 0);
    }
  };
  const auto advance = [&] {
    if (++load_step < my_steps) return;
    load_step = 0;
    load_tile += clusters;
    if (load_tile < tiles) find_rows();
  };
  constexpr int kAhead = P::kStages - 1;
  // Weights first, before the previous kernel has ended; then the x that belongs to them.
  {
    int steps_of[kAhead];
    bool wanted[kAhead];
#pragma unroll
    for (int stage = 0; stage < kAhead; ++stage) {
      wanted[stage] = load_tile < tiles && my_steps > 0;
      steps_of[stage] = load_step;
      if (wanted[stage]) {
        load_weights(stage);
        advance();
      }
    }
    ptx::let_next_kernel_start();
    ptx::wait_for_previous_kernel();
#pragma unroll
    for (int stage = 0; stage < kAhead; ++stage) {
      if (wanted[stage]) load_x(stage, steps_of[stage]);
      ptx::cp_async_commit();
    }
  }

  // --- Products ------------------------------------------------------------------------------------------------------------------
  const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp, g = lane / 4, t = lane % 4;
  int stage = 0;
  bool sums_in_use = false;
  for (int tile = cluster; tile < tiles; tile += clusters) {
    float d[columns / 2];
    for (int step = 0; step < my_steps; ++step) {
      ptx::cp_async_wait<kAhead - 1>();
      ptx::fence_for_wgmma();
      __syncthreads();  // the stage has arrived for everyone, and everyone is done with the stage before it
      const unsigned char* const from = shared + stage * P::kStageBytes;
      const uint64_t a = ptx::wgmma_tile(from + warp / 4 * (64 * kTileRowBytes), kTileGroupBytes);
      const uint64_t b = ptx::wgmma_tile(from + P::kWeightBytes, kTileGroupBytes);
      ptx::wgmma_fence();
#pragma unroll
      for (int k = 0; k < kStep / 16; ++k) ptx::wgmma(d, ptx::wgmma_advance(a, k * 32), ptx::wgmma_advance(b, k * 32), step + k, T{});
      ptx::wgmma_commit();
      const int free_stage = stage == 0 ? P::kStages - 1 : stage - 1;  // the stage before this one
      if (load_tile < tiles) {
        load_weights(free_stage);
        load_x(free_stage, load_step);
        advance();
      }
      ptx::cp_async_commit();
      ptx::wgmma_wait<0>();
      stage = stage + 1 == P::kStages ? 0 : stage + 1;
    }

    // --- The cluster's sums ---------------------------------------------------------------------------------------------------------
    if (sums_in_use) ptx::cluster_wait();  // everyone has read the last tile's
#pragma unroll
    for (int i = 0; i < columns / 8; ++i) {
#pragma unroll
      for (int e = 0; e < 4; ++e) sums[(i * 8 + 2 * t + e % 2) * P::kSumStride + warp * 16 + g + e / 2 * 8] = d[4 * i + e];
    }
    ptx::cluster_arrive();
    ptx::cluster_wait();
    for (int item = threadIdx.x; item < kUnits * 8 * columns; item += kThreads) {
      const int j = item % 8, unit = item / 8 % kUnits, m = item / (8 * kUnits) * splits + rank;
      if (m >= rows) break;
      const float* at = sums + m * P::kSumStride + unit * kUnitRows + j;
      float low = 0, high = 0;
      for (int r = 0; r < splits; ++r) {
        const uint32_t there = ptx::cluster_address(at, r);
        low += ptx::load_cluster_f32(there);
        high += ptx::load_cluster_f32(there + 32);
      }
      op.emit(tile * kUnits + unit, j, m, low, high);
    }
    __syncwarp();
    ptx::cluster_arrive();
    sums_in_use = true;
  }
  if (sums_in_use) ptx::cluster_wait();  // nobody leaves while its sums are being read
#endif
}

struct Split {
  int blocks, clusters;  // of a cluster; of the grid
};
/// Splits even out the rounds, but each costs a sum, and a cluster waits until a group of multiprocessors (of which most have 16) has room
/// for all of it: short products lose more to clusters of 5 to 8 than they win. Weighed as measured (docs/kernels-cuda.md).
Split choose_split(int tiles, int steps, int multiprocessors) {
  constexpr double kSplitCost = 0.1;   // of the time that equal shares would take
  constexpr int kLongSteps = 128;
  const int slots = 2 * multiprocessors, groups = std::max(1, multiprocessors / 16);
  Split best{1, 1};
  double lowest = 1e30;
  for (const int blocks : {1, 2, 3, 4, 6, 8}) {
    const int resident = blocks == 1 ? slots : groups * (2 * 16 / blocks), rounds = (tiles + resident - 1) / resident;
    if (blocks > 1 && steps < 3 * blocks) continue;
    if (blocks > 4 && (steps < kLongSteps || 10 * tiles > 9 * resident)) continue;
    const double cost = static_cast<double>(rounds) / blocks * slots / tiles + kSplitCost * blocks;
    if (cost >= lowest) continue;
    lowest = cost;
    best = {blocks, std::min(tiles, (tiles + rounds - 1) / rounds)};
  }
  return best;
}

template <class T, class Op, int columns>
cudaError_t launch_columns(const KernelContext& c, const Op& op, const T* x, int rows, int in) {
  using P = Plan<columns>;
  const int tiles = (op.units() + kUnits - 1) / kUnits, steps = (in + kStep - 1) / kStep;
  const Split split = choose_split(tiles, steps, c.multiprocessors);
  return launch(hopper_kernel<T, Op, columns>,
                {.grid = static_cast<unsigned>(split.clusters * split.blocks), .block = kThreads, .dynamic_shared_bytes = P::kSharedBytes,
                 .cluster = static_cast<unsigned>(split.blocks), .programmatic = c.programmatic},
                c.stream, op, x, rows, in, steps, tiles);
}

template <class T, class Op>
cudaError_t run(const KernelContext& c, const Op& op, const T* x, int rows, int in) {
  return rows <= 32 ? launch_columns<T, Op, 32>(c, op, x, rows, in) : launch_columns<T, Op, 64>(c, op, x, rows, in);
}
#else
template <class T, class Op>
cudaError_t run(const KernelContext&, const Op&, const T*, int, int) {
  return cudaErrorInvalidValue;  // the emulated device is no sm_90a
}
#endif

}  // namespace

cudaError_t hopper_product(const KernelContext& c, const PlainOp<__half>& op, const __half* x, int rows) { return run<__half>(c, op, x, rows, op.in); }
cudaError_t hopper_product(const KernelContext& c, const PlainOp<__nv_bfloat16>& op, const __nv_bfloat16* x, int rows) { return run<__nv_bfloat16>(c, op, x, rows, op.in); }
cudaError_t hopper_product(const KernelContext& c, const GatedOp<__half>& op, const __half* x, int rows) { return run<__half>(c, op, x, rows, op.in); }
cudaError_t hopper_product(const KernelContext& c, const GatedOp<__nv_bfloat16>& op, const __nv_bfloat16* x, int rows) { return run<__nv_bfloat16>(c, op, x, rows, op.in); }
cudaError_t hopper_product(const KernelContext& c, const QkvOp<__half>& op, const __half* x, int rows) { return run<__half>(c, op, x, rows, op.in); }
cudaError_t hopper_product(const KernelContext& c, const QkvOp<__nv_bfloat16>& op, const __nv_bfloat16* x, int rows) { return run<__nv_bfloat16>(c, op, x, rows, op.in); }

}  // namespace pagemill::cuda
