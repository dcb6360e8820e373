// What the kernels of a decode layer read and how they meet the banks of shared memory, at the true shapes of Qwen2.5-7B. Matrices
// have fewer rows than the model's, whole tiles of them: what the kernel does there repeats. docs/kernels.md keeps what this prints.
#include <gtest/gtest.h>

#include <cstdio>
#include <cstring>

#include "backend/cuda/kernels.h"
#include "base/rng.h"
#include "cuda_emulation/control.h"

namespace pagemill::cuda {
namespace {

constexpr int kHidden = 3584, kFfn = 18944, kHeads = 28, kKvHeads = 4, kDim = 128;

class Traffic : public testing::Test {
 protected:
  void SetUp() override {
    emulated::reset_device({.multiprocessors = 4});
    context.multiprocessors = 4;
    ASSERT_EQ(cudaStreamCreateWithFlags(&context.stream, cudaStreamNonBlocking), cudaSuccess);
  }
  void TearDown() override {
    for (void* data : allocations) cudaFree(data);
    cudaStreamDestroy(context.stream);
  }
  /// Zeroed.
  void* device(size_t bytes) {
    void* data = nullptr;
    EXPECT_EQ(cudaMalloc(&data, bytes), cudaSuccess);
    EXPECT_EQ(cudaMemsetAsync(data, 0, bytes, context.stream), cudaSuccess);
    allocations.push_back(data);
    return data;
  }
  template <class T>
  T* device(const std::vector<T>& values) {
    void* data = device(values.size() * sizeof(T));
    EXPECT_EQ(cudaMemcpyAsync(data, values.data(), values.size() * sizeof(T), cudaMemcpyHostToDevice, context.stream), cudaSuccess);
    return static_cast<T*>(data);
  }
  /// Runs it and prints its traffic beside the weights or keys and values that it must read. What it reads beside those comes from L2.
  template <class Run>
  void measure(const std::string& name, size_t must_read_bytes, double share_max, Run run) {
    EXPECT_EQ(cudaStreamSynchronize(context.stream), cudaSuccess);
    emulated::TrafficCounter counter;
    ASSERT_EQ(run(), cudaSuccess);
    ASSERT_EQ(cudaStreamSynchronize(context.stream), cudaSuccess) << emulated::last_fault();
    const emulated::Traffic traffic = counter.read();
    const double share = static_cast<double>(32 * traffic.global_read_sectors) / static_cast<double>(must_read_bytes);
    std::printf("| %s | %.2f MB | %.3f | %.2f %% | %.2f %% |\n", name.c_str(), static_cast<double>(must_read_bytes) / 1e6, share, 100 * traffic.conflict_share(),
                100 * traffic.copied_conflict_share());
    EXPECT_LE(share, share_max) << name;
    EXPECT_LE(traffic.conflict_share(), 0.01) << name;
    EXPECT_GT(traffic.shared_accesses, 0u) << name;
  }

  KernelContext context;
  std::vector<void*> allocations;
};

TEST_F(Traffic, OfADecodeLayerOfQwen) {
  std::printf("| kernel | must read | sectors read ÷ that | conflicts of reads and stores | of cp.async |\n| --- | --- | --- | --- | --- |\n");
  const size_t element = 2;
  for (const int rows : {1, 8}) {
    const auto label = [&](const char* name) { return std::string(name) + ", " + std::to_string(rows) + (rows == 1 ? " row" : " rows"); };
    const double share_max = 1.005 + rows / 28.0;  // x once per tile of 32 weight rows, padded ones included
    {
      const int out = 512;
      void *x = device(static_cast<size_t>(rows) * kHidden * element), *weight = device(static_cast<size_t>(out) * kHidden * element), *y = device(static_cast<size_t>(rows * out) * element);
      measure(label("o"), static_cast<size_t>(out) * kHidden * element, share_max, [&] {
        return linear_skinny(context, {.type = ElementType::f16, .x = x, .weight = weight, .bias = nullptr, .residual = nullptr, .out = y, .out_f32 = false, .rows = rows, .in = kHidden, .out_features = out});
      });
    }
    {
      const int out = 128;
      void *x = device(static_cast<size_t>(rows) * kFfn * element), *weight = device(static_cast<size_t>(out) * kFfn * element), *y = device(static_cast<size_t>(rows * out) * element);
      measure(label("down"), static_cast<size_t>(out) * kFfn * element, share_max, [&] {
        return linear_skinny(context, {.type = ElementType::f16, .x = x, .weight = weight, .bias = nullptr, .residual = nullptr, .out = y, .out_f32 = false, .rows = rows, .in = kFfn, .out_features = out});
      });
    }
    {
      const int ffn = 256;
      void *x = device(static_cast<size_t>(rows) * kHidden * element), *gate = device(static_cast<size_t>(ffn) * kHidden * element), *up = device(static_cast<size_t>(ffn) * kHidden * element), *y = device(static_cast<size_t>(rows * ffn) * element);
      measure(label("gate, up"), 2 * static_cast<size_t>(ffn) * kHidden * element, share_max, [&] {
        return gated_skinny(context, {.type = ElementType::f16, .x = x, .gate = gate, .up = up, .out = y, .rows = rows, .in = kHidden, .ffn = ffn});
      });
    }
  }
  {
    const int context_tokens = 512, blocks = context_tokens / 16;
    const size_t kv_bytes = kv_layer_block_bytes(kKvHeads, kDim) * static_cast<size_t>(blocks);
    std::vector<int32_t> table(static_cast<size_t>(blocks));
    for (int i = 0; i < blocks; ++i) table[static_cast<size_t>(i)] = i;
    AttentionArgs args{};
    args.type = ElementType::f16;
    args.q = device(static_cast<size_t>(kHeads * kDim) * element);
    args.out = device(static_cast<size_t>(kHeads * kDim) * element);
    args.kv = {device(kv_bytes), kKvHeads, kDim};
    args.block_table = device(table);
    args.table_stride = blocks;
    args.positions = device(std::vector<int32_t>{context_tokens - 1});
    args.seq_of_row = device(std::vector<int32_t>{0});
    args.row_begin = device(std::vector<int32_t>{0, 1});
    args.rows = args.seqs = args.query_rows_max = 1;
    args.heads = kHeads;
    args.context_max = context_tokens;
    args.scale = 0.1f;
    args.workspace = device(attention_workspace_bytes(kHeads, kDim));
    measure("attention, 512 tokens", kv_bytes, 1.07, [&] { return decode_attention(context, args); });
  }
}

}  // namespace
}  // namespace pagemill::cuda
