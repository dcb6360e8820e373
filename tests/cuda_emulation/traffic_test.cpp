// What the kernels of a decode layer read and how they meet the banks of shared memory, at the true shapes of Qwen2.5-7B. Matrices
// have fewer rows than the model's, whole tiles of them: what the kernel does there repeats. docs/kernels-cuda.md keeps what this prints.
#include <gtest/gtest.h>

#include <cstdio>
#include <vector>

#include "backend/cuda/kernels.h"
#include "backend/cuda/kv_layout.h"
#include "cuda_emulation/control.h"

namespace pagemill::cuda {
namespace {

constexpr int kHidden = 3584, kFfn = 18944, kHeads = 28, kKvHeads = 4, kDim = 128, kContext = 512;
constexpr size_t kElement = 2;

/// Rows in a step, and what a block of the device may use of shared memory.
struct Case {
  int rows;
  size_t block_shared_bytes;
};

class TrafficOf : public testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    emulated::reset_device({.multiprocessors = 4, .shared_bytes_max = GetParam().block_shared_bytes});
    context.block_shared_bytes = GetParam().block_shared_bytes;
    ASSERT_EQ(cudaStreamCreateWithFlags(&context.stream, cudaStreamNonBlocking), cudaSuccess);
    context.product_workspace = device(product_workspace_bytes());
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
  void* matrix(int rows, int cols) { return device(static_cast<size_t>(rows) * static_cast<size_t>(cols) * kElement); }
  template <class T>
  T* device(const std::vector<T>& values) {
    void* data = device(values.size() * sizeof(T));
    EXPECT_EQ(cudaMemcpyAsync(data, values.data(), values.size() * sizeof(T), cudaMemcpyHostToDevice, context.stream), cudaSuccess);
    return static_cast<T*>(data);
  }

  struct Range {
    const void* begin;
    size_t bytes;
  };
  /// Runs a part of the layer on `multiprocessors` (as many as make the kernel cut its few rows as it cuts the model's) and adds what
  /// it read to the layer's sums, scaled from the weights or KV here to those of the layer.
  template <class Run>
  void measure(const char* name, const std::vector<Range>& must_read, size_t bytes_of_layer, int multiprocessors, Run run) {
    context.multiprocessors = multiprocessors;
    EXPECT_EQ(cudaStreamSynchronize(context.stream), cudaSuccess);
    emulated::TrafficCounter counter;
    size_t bytes = 0;
    for (const Range& range : must_read) {
      counter.large(range.begin, range.bytes);
      bytes += range.bytes;
    }
    ASSERT_EQ(run(), cudaSuccess) << name;
    ASSERT_EQ(cudaStreamSynchronize(context.stream), cudaSuccess) << emulated::last_fault();
    const emulated::Traffic traffic = counter.read();
    const double must = static_cast<double>(bytes), memory = 32.0 * static_cast<double>(traffic.memory_read_sectors()), all = 32.0 * static_cast<double>(traffic.global_read_sectors);
    print(name, static_cast<double>(bytes_of_layer), memory / must, all / must, traffic);
    EXPECT_EQ(32 * traffic.large_read_sectors, bytes) << name << ": each byte of weights, keys and values once";
    EXPECT_LE(traffic.conflict_share(), 0.01) << name;
    EXPECT_LE(traffic.copied_conflict_share(), 0.01) << name << ": where cp.async puts it";
    EXPECT_GT(traffic.shared_accesses, 0u) << name;
    EXPECT_GT(traffic.copied_accesses, 0u) << name;
    const double scale = static_cast<double>(bytes_of_layer) / must;
    layer_must += static_cast<double>(bytes_of_layer);
    // What is no weight does not grow with the rows of the matrix.
    layer_memory += scale * 32.0 * static_cast<double>(traffic.large_read_sectors) + 32.0 * static_cast<double>(traffic.small_distinct_sectors);
    layer_all += scale * all;
  }
  static void print(const char* name, double bytes, double memory, double all, const emulated::Traffic& traffic) {
    std::printf("| %s, %d %s, %zu KB | %.1f MB | %.4f | %.3f | %.2f %% | %.2f %% |\n", name, GetParam().rows, GetParam().rows == 1 ? "row" : "rows", GetParam().block_shared_bytes / 1024,
                bytes / 1e6, memory, all, 100 * traffic.conflict_share(), 100 * traffic.copied_conflict_share());
  }

  KernelContext context;
  std::vector<void*> allocations;
  double layer_must = 0, layer_memory = 0, layer_all = 0;
};

TEST_P(TrafficOf, ADecodeLayerOfQwen) {
  const int rows = GetParam().rows;
  std::printf("| kernel, rows, shared memory of a block | of the layer | read from memory ÷ that | with L2 | conflicts of reads and stores | of cp.async |\n| --- | --- | --- | --- | --- | --- |\n");
  const size_t square = size_t{kHidden} * kHidden * kElement;
  {
    const int heads = 2, out = (heads + 2) * kDim;
    void* const weight = matrix(out, kHidden);
    unsigned char* const bytes = static_cast<unsigned char*>(weight);
    QkvArgs args{.type = ElementType::f16, .x = matrix(rows, kHidden), .weight = {bytes, bytes + size_t{2 * kDim} * kHidden * kElement, bytes + size_t{3 * kDim} * kHidden * kElement}, .bias = {},
                 .angles = device(std::vector<float2>(static_cast<size_t>(rows * kDim / 2))), .slots = device(std::vector<int32_t>(static_cast<size_t>(rows), -1)),
                 .q = matrix(rows, heads * kDim), .kv = {device(kv_layer_block_bytes(1, kDim)), 1, kDim}, .rows = rows, .in = kHidden, .heads = heads};
    measure("qkv", {{weight, size_t(out) * kHidden * kElement}}, (kHeads + 2 * kKvHeads) * size_t{kDim} * kHidden * kElement, 16, [&] { return qkv_skinny(context, args); });
  }
  const auto plain = [&](const char* name, int in, int out, size_t bytes_of_layer, int multiprocessors) {
    void* const weight = matrix(out, in);
    const LinearArgs args{.type = ElementType::f16, .x = matrix(rows, in), .weight = weight, .bias = nullptr, .residual = nullptr, .out = matrix(rows, out), .out_f32 = false, .rows = rows, .in = in, .out_features = out};
    measure(name, {{weight, size_t(out) * size_t(in) * kElement}}, bytes_of_layer, multiprocessors, [&] { return linear_skinny(context, args); });
  };
  plain("o", kHidden, 512, square, 16);
  {
    // 18 tiles for 4 blocks, as each of 264 has 4.5 of the model's 1,184.
    const int ffn = 288, multiprocessors = GetParam().block_shared_bytes >= kHopperSharedBytes ? 2 : 4;
    void *const gate = matrix(ffn, kHidden), *const up = matrix(ffn, kHidden);
    const GatedArgs args{.type = ElementType::f16, .x = matrix(rows, kHidden), .gate = gate, .up = up, .out = matrix(rows, ffn), .rows = rows, .in = kHidden, .ffn = ffn};
    const size_t each = size_t(ffn) * kHidden * kElement;
    measure("gate, up", {{gate, each}, {up, each}}, 2 * size_t{kFfn} * kHidden * kElement, multiprocessors, [&] { return gated_skinny(context, args); });
  }
  plain("down", kFfn, 128, size_t{kFfn} * kHidden * kElement, 4);
  {
    const int blocks = kContext / 16;
    const size_t row_bytes = kv_layer_block_bytes(kKvHeads, kDim) * size_t(blocks), kv_bytes = row_bytes * size_t(rows);
    std::vector<int32_t> table(static_cast<size_t>(blocks * rows)), positions(static_cast<size_t>(rows), kContext - 1), seqs, begins;
    for (size_t i = 0; i < table.size(); ++i) table[i] = static_cast<int32_t>(table.size() - 1 - i);
    for (int32_t i = 0; i <= rows; ++i) begins.push_back(i);
    for (int32_t i = 0; i < rows; ++i) seqs.push_back(i);
    AttentionArgs args{};
    args.type = ElementType::f16;
    args.q = matrix(rows, kHeads * kDim);
    args.out = matrix(rows, kHeads * kDim);
    args.kv = {device(kv_bytes), kKvHeads, kDim};
    args.block_table = device(table);
    args.table_stride = blocks;
    args.positions = device(positions);
    args.seq_of_row = device(seqs);
    args.row_begin = device(begins);
    args.rows = args.seqs = rows;
    args.query_rows_max = 1;
    args.heads = kHeads;
    args.context_max = kContext;
    args.scale = 0.1f;
    args.workspace = device(attention_workspace_bytes(kHeads, kDim));
    measure("attention, 512 tokens", {{args.kv.base, kv_bytes}}, kv_bytes, 132, [&] { return decode_attention(context, args); });
  }
  std::printf("| the layer, %d %s, %zu KB | %.1f MB | %.4f | %.3f | | |\n", rows, rows == 1 ? "row" : "rows", GetParam().block_shared_bytes / 1024, layer_must / 1e6,
              layer_memory / layer_must, layer_all / layer_must);
  EXPECT_LE(layer_memory, 1.03 * layer_must);
  // Beside those, x comes from L2: a single row once per block of gate and up and once per tile elsewhere, more rows once per tile of 32
  // weight rows.
  EXPECT_LE(layer_all, (rows == 1 ? 1.03 : 1.02 + rows / 32.0) * layer_must);
}

INSTANTIATE_TEST_SUITE_P(Cuda, TrafficOf, testing::Values(Case{1, 99 * 1024}, Case{8, 99 * 1024}, Case{1, 227 * 1024}, Case{8, 227 * 1024}),
                         [](const auto& each) { return std::to_string(each.param.rows) + "_" + std::to_string(each.param.block_shared_bytes / 1024) + "KB"; });

}  // namespace
}  // namespace pagemill::cuda
