// The emulated device itself: threads, warps, memory, streams and failures, against what CUDA and PTX say.
#include <gtest/gtest.h>

#include <functional>
#include <numeric>
#include <random>
#include <vector>

#include "backend/cuda/ptx.h"
#include "backend/cuda/runtime.h"
#include "cuda_emulation/control.h"

namespace pagemill::cuda {
namespace {

class EmulationTest : public testing::Test {
 protected:
  void SetUp() override {
    emulated::reset_device();
    ASSERT_EQ(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), cudaSuccess);
  }
  void TearDown() override {
    emulated::mend();
    for (void* data : allocations) cudaFree(data);
    if (stream) cudaStreamDestroy(stream);
    EXPECT_EQ(emulated::held(), emulated::Held{});
  }
  template <class T>
  T* device(const std::vector<T>& values) {
    void* data = nullptr;
    EXPECT_EQ(cudaMalloc(&data, values.size() * sizeof(T)), cudaSuccess);
    allocations.push_back(data);
    EXPECT_EQ(cudaMemcpyAsync(data, values.data(), values.size() * sizeof(T), cudaMemcpyHostToDevice, stream), cudaSuccess);
    return static_cast<T*>(data);
  }
  template <class T>
  std::vector<T> host(const T* data, size_t count) {
    std::vector<T> values(count);
    EXPECT_EQ(cudaMemcpyAsync(values.data(), data, count * sizeof(T), cudaMemcpyDeviceToHost, stream), cudaSuccess);
    return values;
  }
  /// The kernel's fault; empty = it ran.
  template <class... P, class... A>
  std::string fault_of(void (*kernel)(P...), LaunchShape shape, A... arguments) {
    EXPECT_EQ(launch(kernel, shape, stream, arguments...), cudaSuccess);
    const cudaError_t error = cudaStreamSynchronize(stream);
    const std::string fault = emulated::last_fault();
    EXPECT_EQ(error != cudaSuccess, !fault.empty());
    emulated::mend();
    return fault;
  }

  cudaStream_t stream = nullptr;
  std::vector<void*> allocations;
};

__global__ void sum_block(const int* in, int* out) {
  PM_SHARED(partial, int[32]);
  int sum = in[blockIdx.x * blockDim.x + threadIdx.x];
  for (int bits = 16; bits > 0; bits /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, bits);
  if (threadIdx.x % 32 == 0) partial[threadIdx.x / 32] = sum;
  __syncthreads();
  if (threadIdx.x == 0) {
    int all = 0;
    for (unsigned warp = 0; warp < blockDim.x / 32; ++warp) all += partial[warp];
    atomicAdd(out, all);
  }
}

TEST_F(EmulationTest, BarriersShufflesAndAtomicsInEveryOrder) {
  std::vector<int> values(4 * 256);
  std::iota(values.begin(), values.end(), 1);
  const int* in = device(values);
  for (uint64_t seed = 0; seed < 30; ++seed) {
    emulated::set_thread_order(seed);
    int* out = device(std::vector<int>{0});
    ASSERT_EQ(fault_of(sum_block, {.grid = 4, .block = 256}, in, out), "");
    EXPECT_EQ(host(out, 1)[0], 1024 * 1025 / 2);
  }
}

__global__ void sum_without_barrier(const int* in, int* out) {
  PM_SHARED(partial, int[32]);
  partial[threadIdx.x] = in[threadIdx.x];
  if (threadIdx.x == 0) {
    int all = 0;
    for (unsigned i = 0; i < blockDim.x; ++i) all += partial[i];
    *out = all;
  }
}

TEST_F(EmulationTest, AMissingBarrierShows) {
  const int* in = device(std::vector<int>(32, 1));
  int wrong = 0;
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    emulated::set_thread_order(seed);
    int* out = device(std::vector<int>{0});
    ASSERT_EQ(fault_of(sum_without_barrier, {.grid = 1, .block = 32}, in, out), "");
    wrong += host(out, 1)[0] != 32;
  }
  EXPECT_GE(wrong, 18);
}

__global__ void read_what_the_block_before_left(int* out) {
  PM_SHARED(value, int);
  if (blockIdx.x == 0) value = 7;
  __syncthreads();
  out[blockIdx.x] = value;
}

TEST_F(EmulationTest, SharedMemoryIsPoisonedForEachBlock) {
  int* out = device(std::vector<int>(2));
  ASSERT_EQ(fault_of(read_what_the_block_before_left, {.grid = 2, .block = 32}, out), "");
  EXPECT_EQ(host(out, 2), (std::vector<int>{7, -1}));
}

__global__ void barrier_in_half_of_the_block() {
  if (threadIdx.x < 32) __syncthreads();
}
__global__ void two_barriers(int) {
  if (threadIdx.x < 32) {
    __syncthreads();
  } else {
    __syncthreads();
  }
}
__global__ void half_a_warp_shuffles(int* out) {
  if (threadIdx.x < 16) *out = __shfl_sync(0xffffffffu, 1, 0);
}
__global__ void lanes_in_different_operations(int* out) {
  if (threadIdx.x < 16) {
    *out = __shfl_sync(0xffffffffu, 1, 0);
  } else {
    __syncwarp();
  }
}
__global__ void reads_a_lane_outside(int* out) {
  if (threadIdx.x < 16) *out = __shfl_sync(0x0000ffffu, 1, 20);
}

TEST_F(EmulationTest, DivergenceIsAnErrorThatNamesThePlace) {
  int* out = device(std::vector<int>{0});
  EXPECT_THAT(fault_of(barrier_in_half_of_the_block, {.grid = 1, .block = 64}), testing::AllOf(testing::HasSubstr("divergence"), testing::HasSubstr("emulation_test.cpp:")));
  EXPECT_THAT(fault_of(two_barriers, {.grid = 1, .block = 64}, 0), testing::HasSubstr("different places"));
  EXPECT_THAT(fault_of(half_a_warp_shuffles, {.grid = 1, .block = 32}, out), testing::HasSubstr("divergence"));
  EXPECT_THAT(fault_of(lanes_in_different_operations, {.grid = 1, .block = 32}, out), testing::HasSubstr("diverged"));
  EXPECT_THAT(fault_of(reads_a_lane_outside, {.grid = 1, .block = 32}, out), testing::HasSubstr("takes no part"));
  // The device is whole after each: a good kernel runs.
  EXPECT_EQ(fault_of(sum_block, {.grid = 1, .block = 32}, device(std::vector<int>(32, 2)), out), "");
}

__global__ void votes(unsigned* out) {
  const unsigned ballot = __ballot_sync(0xffffffffu, threadIdx.x % 3 == 0);
  const int any = __any_sync(0xffffffffu, threadIdx.x == 31), all = __all_sync(0xffffffffu, threadIdx.x < 31);
  const int up = __shfl_up_sync(0xffffffffu, static_cast<int>(threadIdx.x), 1, 8), down = __shfl_down_sync(0xffffffffu, static_cast<int>(threadIdx.x), 3, 16);
  const int most = __reduce_max_sync(0xffffffffu, static_cast<int>(threadIdx.x));
  const int some = __syncthreads_or(threadIdx.x == 5), none = __syncthreads_or(0), many = __syncthreads_count(threadIdx.x < 9);
  if (threadIdx.x == 8) {
    const int values[] = {static_cast<int>(ballot), any, all, up, down, most, some, none, many};
    for (int i = 0; i < 9; ++i) out[i] = static_cast<unsigned>(values[i]);
  }
}

TEST_F(EmulationTest, VotesShufflesAndReductions) {
  unsigned expected_ballot = 0;
  for (int i = 0; i < 32; i += 3) expected_ballot |= 1u << i;
  for (uint64_t seed = 0; seed < 5; ++seed) {
    emulated::set_thread_order(seed);
    unsigned* out = device(std::vector<unsigned>(9));
    ASSERT_EQ(fault_of(votes, {.grid = 1, .block = 32}, out), "");
    EXPECT_EQ(host(out, 9), (std::vector<unsigned>{expected_ballot, 1, 0, 8, 11, 31, 1, 0, 9}));
  }
}

// Producers fill, consumers read: two named barriers of 64 threads each.
__global__ void producer_consumer(int* out) {
  PM_SHARED(slot, int[32]);
  const int lane = static_cast<int>(threadIdx.x % 32);
  for (int round = 0; round < 4; ++round) {
    if (threadIdx.x < 32) {
      if (round > 0) ptx::barrier_sync(2, 64);
      slot[lane] = round * 100 + lane;
      ptx::barrier_arrive(1, 64);
    } else {
      ptx::barrier_sync(1, 64);
      out[round * 32 + lane] = slot[lane];
      if (round < 3) ptx::barrier_arrive(2, 64);
    }
  }
}

TEST_F(EmulationTest, NamedBarriers) {
  for (uint64_t seed = 0; seed < 20; ++seed) {
    emulated::set_thread_order(seed);
    int* out = device(std::vector<int>(128));
    ASSERT_EQ(fault_of(producer_consumer, {.grid = 1, .block = 64}, out), "");
    const std::vector<int> values = host(out, 128);
    for (int i = 0; i < 128; ++i) ASSERT_EQ(values[static_cast<size_t>(i)], i / 32 * 100 + i % 32);
  }
}

__global__ void copy_async(const uint4* in, uint4* out, bool waits) {
  uint4* staged = dynamic_shared<uint4>();
  ptx::cp_async_16(&staged[threadIdx.x], &in[threadIdx.x], threadIdx.x == 3 ? 4 : 16);
  ptx::cp_async_commit();
  ptx::cp_async_16(&staged[32 + threadIdx.x], &in[32 + threadIdx.x]);
  ptx::cp_async_commit();
  if (waits) ptx::cp_async_wait<1>();
  __syncthreads();
  out[threadIdx.x] = staged[threadIdx.x ^ 1];
  out[32 + threadIdx.x] = staged[32 + threadIdx.x];  // not waited for
}

TEST_F(EmulationTest, AsyncCopiesArriveAtTheirWait) {
  std::vector<uint4> in(64);
  for (unsigned i = 0; i < 64; ++i) in[i] = {i, i, i, i};
  const uint4* from = device(in);
  uint4* to = device(std::vector<uint4>(64));
  ASSERT_EQ(fault_of(copy_async, {.grid = 1, .block = 32, .dynamic_shared_bytes = 1024}, from, to, true), "");
  std::vector<uint4> out = host(to, 64);
  EXPECT_EQ(out[4].y, 5u);
  EXPECT_EQ(out[2].x, 3u);
  EXPECT_EQ(out[2].y, 0u);  // 4 bytes read, 12 zeros
  EXPECT_EQ(out[40].x, 0xffffffffu);
  ASSERT_EQ(fault_of(copy_async, {.grid = 1, .block = 32, .dynamic_shared_bytes = 1024}, from, to, false), "");
  EXPECT_EQ(host(to, 64)[4].y, 0xffffffffu);
}

template <class T>
__global__ void product(const T* a, const T* b, float* c) {  // [16, 16] · [16, 8], fragments by PTX's table
  const int g = static_cast<int>(threadIdx.x) / 4, t = static_cast<int>(threadIdx.x) % 4;
  const auto pack = [](T low, T high) { return static_cast<uint32_t>(low.bits) | static_cast<uint32_t>(high.bits) << 16; };
  uint32_t fa[4], fb[2];
  for (int i = 0; i < 4; ++i) {
    const T* at = a + (g + i % 2 * 8) * 16 + 2 * t + i / 2 * 8;
    fa[i] = pack(at[0], at[1]);
  }
  for (int i = 0; i < 2; ++i) fb[i] = pack(b[(2 * t + i * 8) * 8 + g], b[(2 * t + i * 8 + 1) * 8 + g]);
  float sum[4] = {1, 1, 1, 1};
  ptx::mma_16816(sum, fa, fb, T{});
  for (int i = 0; i < 4; ++i) c[(g + i / 2 * 8) * 8 + 2 * t + i % 2] = sum[i];
}

/// The same product with fragments loaded by ldmatrix: A as it lies, B from its transpose [8, 16] and by .trans from [16, 8].
template <class T>
__global__ void product_by_ldmatrix(const T* a, const T* b, float* c, bool trans) {
  PM_SHARED(staged_a, uint4[32]);
  PM_SHARED(staged_b, uint4[16]);
  const int lane = static_cast<int>(threadIdx.x);
  staged_a[lane] = reinterpret_cast<const uint4*>(a)[lane];
  if (lane < 16) {
    if (trans) {
      staged_b[lane] = reinterpret_cast<const uint4*>(b)[lane];
    } else {
      T* to = reinterpret_cast<T*>(&staged_b[lane]);
      for (int i = 0; i < 8; ++i) to[i] = b[(lane % 2 * 8 + i) * 8 + lane / 2];  // [n = lane / 2][k]
    }
  }
  __syncthreads();
  uint32_t fa[4], fb[4];
  ptx::ldmatrix_x4(fa, &staged_a[(lane % 8 + lane / 8 % 2 * 8) * 2 + lane / 16]);
  if (trans) {
    ptx::ldmatrix_x4_trans(fb, &staged_b[lane % 16]);
  } else {
    ptx::ldmatrix_x4(fb, &staged_b[lane % 8 * 2 + lane / 8 % 2]);
  }
  const uint32_t b01[2] = {fb[0], fb[1]};
  float sum[4] = {1, 1, 1, 1};
  ptx::mma_16816(sum, fa, b01, T{});
  const int g = lane / 4, t = lane % 4;
  for (int i = 0; i < 4; ++i) c[(g + i / 2 * 8) * 8 + 2 * t + i % 2] = sum[i];
}

template <class T>
void check_products(EmulationTest&, const std::function<std::vector<float>(const std::vector<T>&, const std::vector<T>&, int)>& run) {
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  std::vector<T> a(256), b(128);
  for (T& x : a) x = normal(random);
  for (T& x : b) x = normal(random);
  for (int variant = 0; variant < 3; ++variant) {
    const std::vector<float> c = run(a, b, variant);
    for (size_t row = 0; row < 16; ++row) {
      for (size_t column = 0; column < 8; ++column) {
        double sum = 1;
        for (size_t k = 0; k < 16; ++k) sum += double(float(a[row * 16 + k])) * double(float(b[k * 8 + column]));
        ASSERT_NEAR(c[row * 8 + column], sum, 2e-5) << variant << ": " << row << ", " << column;
      }
    }
  }
}

TEST_F(EmulationTest, TensorCoreProductsByTheTables) {
  const auto run = [this]<class T>(const std::vector<T>& a, const std::vector<T>& b, int variant) {
    float* c = device(std::vector<float>(128));
    if (variant == 0) {
      EXPECT_EQ(fault_of(product<T>, {.grid = 1, .block = 32}, device(a), device(b), c), "");
    } else {
      EXPECT_EQ(fault_of(product_by_ldmatrix<T>, {.grid = 1, .block = 32}, device(a), device(b), c, variant == 2), "");
    }
    return host(c, 128);
  };
  for (uint64_t seed = 0; seed < 3; ++seed) {
    emulated::set_thread_order(seed);
    check_products<__half>(*this, run);
    check_products<__nv_bfloat16>(*this, run);
  }
}

__global__ void read_columns(const uint4* in, float* sink, int stride) {
  uint4* staged = dynamic_shared<uint4>();
  const uint4 v = ptx::load_16(&in[threadIdx.x]);
  ptx::store_shared_16(&staged[threadIdx.x * static_cast<unsigned>(stride)], v);
  __syncwarp();
  const float* words = reinterpret_cast<const float*>(staged);
  sink[threadIdx.x] = ptx::load_shared_f32(&words[threadIdx.x * 4 * static_cast<unsigned>(stride)]);
}

TEST_F(EmulationTest, CountsSectorsAndConflicts) {
  const uint4* in = device(std::vector<uint4>(64));
  float* sink = device(std::vector<float>(32));
  emulated::TrafficCounter counter;
  ASSERT_EQ(fault_of(read_columns, {.grid = 1, .block = 32, .dynamic_shared_bytes = 32 * 16 * 8}, in, sink, 1), "");
  emulated::Traffic traffic = counter.read();
  EXPECT_EQ(traffic.global_read_sectors, 16u);       // 512 bytes
  EXPECT_EQ(traffic.global_read_bytes, 512u);
  EXPECT_EQ(traffic.shared_accesses, 4u + 1u);
  EXPECT_EQ(traffic.shared_conflicts, 3u);           // the column of words 0, 4, 8 …: 8 banks, 4 words each
  counter.clear();
  ASSERT_EQ(fault_of(read_columns, {.grid = 1, .block = 32, .dynamic_shared_bytes = 32 * 16 * 8}, in + 1, sink, 8), "");
  traffic = counter.read();
  EXPECT_EQ(traffic.global_read_sectors, 17u);       // shifted by half a sector
  EXPECT_EQ(traffic.shared_conflicts, 4u * 7u + 31u); // all in the same banks
}

TEST_F(EmulationTest, CountsWhatMustComeFromMemory) {
  const uint4* in = device(std::vector<uint4>(64));
  float* sink = device(std::vector<float>(32));
  emulated::TrafficCounter counter;
  for (int i = 0; i < 2; ++i) ASSERT_EQ(fault_of(read_columns, {.grid = 1, .block = 32, .dynamic_shared_bytes = 32 * 16 * 8}, in, sink, 1), "");
  EXPECT_EQ(counter.read().global_read_sectors, 32u);
  EXPECT_EQ(counter.read().memory_read_sectors(), 16u);  // the second time from L2
  counter.clear();
  counter.large(in, 256);
  for (int i = 0; i < 2; ++i) ASSERT_EQ(fault_of(read_columns, {.grid = 1, .block = 32, .dynamic_shared_bytes = 32 * 16 * 8}, in, sink, 1), "");
  EXPECT_EQ(counter.read().large_read_sectors, 16u);     // 8 sectors, each time
  EXPECT_EQ(counter.read().small_distinct_sectors, 8u);
}

__global__ void set_value(int* at, int value) { *at = value; }
__global__ void add_one(int* at) { *at += 1; }

TEST_F(EmulationTest, StreamsRunLate) {
  int* value = device(std::vector<int>{0});
  int* pinned = nullptr;
  ASSERT_EQ(cudaMallocHost(&pinned, sizeof(int)), cudaSuccess);
  *pinned = 0;
  launch(set_value, {}, stream, value, 5);
  cudaMemcpyAsync(pinned, value, sizeof(int), cudaMemcpyDeviceToHost, stream);
  EXPECT_EQ(*pinned, 0);
  *pinned = 1;
  cudaMemcpyAsync(value, pinned, sizeof(int), cudaMemcpyHostToDevice, stream);
  *pinned = 2;  // too early: the copies have not run
  EXPECT_EQ(cudaStreamSynchronize(stream), cudaSuccess);
  EXPECT_EQ(*pinned, 5);
  EXPECT_EQ(host(value, 1)[0], 5);
  cudaFreeHost(pinned);
}

TEST_F(EmulationTest, EventsOrderStreams) {
  cudaStream_t second = nullptr;
  cudaEvent_t event = nullptr;
  ASSERT_EQ(cudaStreamCreateWithFlags(&second, cudaStreamNonBlocking), cudaSuccess);
  ASSERT_EQ(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), cudaSuccess);
  int* value = device(std::vector<int>{0});
  launch(set_value, {}, stream, value, 5);
  cudaEventRecord(event, stream);
  launch(set_value, {}, stream, value, 9);  // after the event: need not have run
  cudaStreamWaitEvent(second, event);
  launch(add_one, {}, second, value);
  EXPECT_EQ(cudaEventQuery(event), cudaErrorNotReady);
  EXPECT_EQ(cudaStreamSynchronize(second), cudaSuccess);
  EXPECT_EQ(cudaEventQuery(event), cudaSuccess);
  int seen = 0;
  cudaMemcpyAsync(&seen, value, sizeof seen, cudaMemcpyDeviceToHost, second);
  EXPECT_EQ(seen, 6);
  cudaEventDestroy(event);
  cudaStreamDestroy(second);
}

TEST_F(EmulationTest, GraphsReplayWithTheirPointers) {
  int* value = device(std::vector<int>{3});
  ASSERT_EQ(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal), cudaSuccess);
  launch(add_one, {}, stream, value);
  launch(add_one, {}, stream, value);
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t exec = nullptr;
  ASSERT_EQ(cudaStreamEndCapture(stream, &graph), cudaSuccess);
  ASSERT_EQ(cudaGraphInstantiate(&exec, graph), cudaSuccess);
  cudaGraphDestroy(graph);
  EXPECT_EQ(host(value, 1)[0], 3);  // capturing runs nothing
  for (int i = 0; i < 3; ++i) ASSERT_EQ(cudaGraphLaunch(exec, stream), cudaSuccess);
  EXPECT_EQ(host(value, 1)[0], 9);
  cudaGraphExecDestroy(exec);
}

TEST_F(EmulationTest, WaitingOrAllocatingSpoilsACapture) {
  for (const auto& spoil : std::vector<std::function<cudaError_t()>>{
           [this] { return cudaStreamSynchronize(stream); },
           [this] { void* data = nullptr; return cudaMalloc(&data, 16); },
           [] { return cudaDeviceSynchronize(); }}) {
    ASSERT_EQ(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal), cudaSuccess);
    EXPECT_EQ(spoil(), cudaErrorStreamCaptureUnsupported);
    cudaGraph_t graph = nullptr;
    EXPECT_NE(cudaStreamEndCapture(stream, &graph), cudaSuccess);
    EXPECT_EQ(graph, nullptr);
  }
}

TEST_F(EmulationTest, MemoryEnds) {
  emulated::mend();
  cudaStreamDestroy(stream);
  emulated::reset_device({.memory_bytes = 1 << 20});
  ASSERT_EQ(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), cudaSuccess);
  void *first = nullptr, *second = nullptr;
  EXPECT_EQ(cudaMalloc(&first, 600'000), cudaSuccess);
  EXPECT_EQ(cudaMalloc(&second, 600'000), cudaErrorMemoryAllocation);
  size_t free_bytes = 0, total = 0;
  cudaMemGetInfo(&free_bytes, &total);
  EXPECT_EQ(free_bytes, (1u << 20) - 600'000u);
  EXPECT_EQ(launch(set_value, {}, stream, static_cast<int*>(first), 1), cudaSuccess);  // not sticky
  EXPECT_EQ(cudaStreamSynchronize(stream), cudaSuccess);
  cudaFree(first);
}

TEST_F(EmulationTest, AFailedCallIsSticky) {
  int* value = device(std::vector<int>{0});
  emulated::fail_call(1, cudaErrorLaunchFailure);
  EXPECT_EQ(launch(set_value, {}, stream, value, 1), cudaSuccess);
  EXPECT_EQ(launch(set_value, {}, stream, value, 2), cudaErrorLaunchFailure);
  EXPECT_EQ(cudaStreamSynchronize(stream), cudaErrorLaunchFailure);
  EXPECT_EQ(cudaGetLastError(), cudaErrorLaunchFailure);
  emulated::mend();
}

TEST_F(EmulationTest, HalfAndBfloatRoundToNearestEven) {
  EXPECT_EQ(__float2half_rn(1.0f + 0x1p-11f).bits, __float2half_rn(1.0f).bits);
  EXPECT_EQ(float(__float2half_rn(1.0f + 0x1.8p-10f)), 1.0f + 0x1p-9f);
  EXPECT_EQ(float(__float2bfloat16_rn(1.0f + 0x1p-8f)), 1.0f);
  EXPECT_EQ(float(__float2bfloat16_rn(1.0f + 0x1.8p-7f)), 1.0f + 0x1p-6f);
}

}  // namespace
}  // namespace pagemill::cuda
