// Bugs planted into a kernel (plant_bug.py) and into the host's graphs: the comparison that the op tests make must catch each.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <functional>

#include "base/rng.h"
#include "cuda_emulation/control.h"
#include "backend/cuda/kernels.h"
#include "backend/cuda/step_graphs.h"

namespace pagemill::cuda {

cudaError_t decode_attention_missing_barrier(const KernelContext& context, const AttentionArgs& args);
cudaError_t decode_attention_tile_off_by_one(const KernelContext& context, const AttentionArgs& args);
cudaError_t decode_attention_wrong_fragment_lane(const KernelContext& context, const AttentionArgs& args);
cudaError_t decode_attention_lost_split(const KernelContext& context, const AttentionArgs& args);

namespace {

using Decode = cudaError_t (*)(const KernelContext&, const AttentionArgs&);

constexpr int kHeads = 8, kKvHeads = 2, kDim = 64, kContext = 300, kBlocks = (kContext + 15) / 16;

class PlantedBugs : public testing::Test {
 protected:
  void SetUp() override {
    emulated::reset_device({.multiprocessors = 16});
    ASSERT_EQ(cudaStreamCreateWithFlags(&context.stream, cudaStreamNonBlocking), cudaSuccess);
    context.multiprocessors = 16;
  }
  void TearDown() override {
    for (void* data : allocations) cudaFree(data);
    cudaStreamDestroy(context.stream);
    EXPECT_EQ(emulated::held(), emulated::Held{});
  }
  template <class T>
  T* device(const std::vector<T>& values) {
    void* data = nullptr;
    EXPECT_EQ(cudaMalloc(&data, values.size() * sizeof(T)), cudaSuccess);
    allocations.push_back(data);
    EXPECT_EQ(cudaMemcpyAsync(data, values.data(), values.size() * sizeof(T), cudaMemcpyHostToDevice, context.stream), cudaSuccess);
    return static_cast<T*>(data);
  }
  std::vector<uint16_t> halves(size_t count) {
    std::vector<uint16_t> values(count);
    for (uint16_t& value : values) value = f32_to_f16(static_cast<float>(random.normal()));
    return values;
  }

  /// One row after kContext tokens; its attention by `decode`, in one order of threads.
  std::vector<float> attend(Decode decode, uint64_t order) {
    emulated::set_thread_order(0);
    random = SplitMix64(5);
    std::vector<int32_t> table(kBlocks);
    for (int i = 0; i < kBlocks; ++i) table[static_cast<size_t>(i)] = kBlocks - 1 - i;
    const size_t pool_bytes = kv_layer_block_bytes(kKvHeads, kDim) * kBlocks;
    AttentionArgs args{};
    args.type = ElementType::f16;
    args.q = device(halves(kHeads * kDim));
    uint16_t* out = device(std::vector<uint16_t>(kHeads * kDim));
    args.out = out;
    args.kv = {device(halves(pool_bytes / 2)), kKvHeads, kDim};
    args.block_table = device(table);
    args.table_stride = kBlocks;
    args.positions = device(std::vector<int32_t>{kContext - 1});
    args.seq_of_row = device(std::vector<int32_t>{0});
    args.row_begin = device(std::vector<int32_t>{0, 1});
    args.rows = args.seqs = args.query_rows_max = 1;
    args.heads = kHeads;
    args.context_max = kContext;
    args.scale = 0.2f;
    args.workspace = device(std::vector<uint8_t>(attention_workspace_bytes(kHeads, kDim)));
    EXPECT_EQ(cudaStreamSynchronize(context.stream), cudaSuccess);
    emulated::set_thread_order(order);
    EXPECT_EQ(decode(context, args), cudaSuccess);
    EXPECT_EQ(cudaStreamSynchronize(context.stream), cudaSuccess) << emulated::last_fault();
    std::vector<uint16_t> bits(kHeads * kDim);
    EXPECT_EQ(cudaMemcpyAsync(bits.data(), out, bits.size() * 2, cudaMemcpyDeviceToHost, context.stream), cudaSuccess);
    std::vector<float> values;
    for (const uint16_t each : bits) values.push_back(f16_to_f32(each));
    return values;
  }
  /// Orders of twenty in which the result is off by more than the op tests allow.
  int caught(Decode decode) {
    const std::vector<float> right = attend(decode_attention, 0);
    int count = 0;
    for (uint64_t order = 1; order <= 20; ++order) {
      const std::vector<float> got = attend(decode, order);
      bool wrong = false;
      for (size_t i = 0; i < right.size(); ++i) wrong |= !(std::abs(got[i] - right[i]) <= 0x1p-11f * (12 * std::abs(right[i]) + 24));
      count += wrong;
    }
    return count;
  }

  KernelContext context;
  SplitMix64 random{1};
  std::vector<void*> allocations;
};

TEST_F(PlantedBugs, TheKernelItselfIsRightInEveryOrder) { EXPECT_EQ(caught(decode_attention), 0); }
TEST_F(PlantedBugs, AMissingBarrierIsCaught) { EXPECT_GE(caught(decode_attention_missing_barrier), 15); }
TEST_F(PlantedBugs, ATileOffByOneIsCaught) { EXPECT_EQ(caught(decode_attention_tile_off_by_one), 20); }
TEST_F(PlantedBugs, AWrongFragmentLaneIsCaught) { EXPECT_EQ(caught(decode_attention_wrong_fragment_lane), 20); }
TEST_F(PlantedBugs, ALostSplitIsCaught) { EXPECT_EQ(caught(decode_attention_lost_split), 20); }

/// A graph that outlives the memory it was recorded with: what it writes never reaches the new one.
TEST_F(PlantedBugs, AStaleGraphPointerIsCaught) {
  const auto add_in = [&](uint16_t* x, StepGraphs& graphs, DeviceStatus& status) {
    graphs.run(this, {.rows = 1, .seqs = 1}, context.stream, status, [&] { EXPECT_EQ(add(context, ElementType::f16, x, x, 8), cudaSuccess); });
    EXPECT_EQ(cudaStreamSynchronize(context.stream), cudaSuccess);
    std::vector<uint16_t> bits(8);
    EXPECT_EQ(cudaMemcpyAsync(bits.data(), x, 16, cudaMemcpyDeviceToHost, context.stream), cudaSuccess);
    return f16_to_f32(bits[0]);
  };
  for (const bool forgets_to_clear : {false, true}) {
    StepGraphs graphs;
    DeviceStatus status;
    const std::vector<uint16_t> ones(8, f32_to_f16(1));
    uint16_t *first = device(ones), *second = device(ones);
    EXPECT_EQ(add_in(first, graphs, status), 2);
    if (!forgets_to_clear) graphs.clear();
    EXPECT_EQ(add_in(second, graphs, status), forgets_to_clear ? 1 : 2);
  }
}

}  // namespace
}  // namespace pagemill::cuda
