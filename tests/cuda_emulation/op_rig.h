// OpRig: one op on the emulated device and on the CPU reference, from the same 16-bit values.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <memory>
#include <vector>

#include "backend/cpu/reference_backend.h"
#include "backend/cuda/cuda_backend.h"
#include "base/rng.h"
#include "cuda_emulation/control.h"

namespace pagemill {

/// A matrix of the op, on both sides.
struct Operand {
  std::vector<float> values;                // what the reference holds
  std::unique_ptr<DeviceBuffer> memory;
  Matrix device, reference;
};

class OpRig {
 public:
  struct Options {
    DType dtype = DType::f16;
    bool deterministic = false, graphs = false, cublas = true;
    StepShape largest{.rows = 320, .seqs = 320, .logit_rows = 320, .query_rows_max = 320, .context_max = 2048};
    int32_t heads = 8, head_dim = 64, vocab = 512;
  };
  explicit OpRig(const Options& wanted) : options(wanted), reference(1) {
    auto made = cuda::CudaBackend::make({.dtype = options.dtype, .graphs = options.graphs, .deterministic = options.deterministic, .threads = 1});
    EXPECT_TRUE(made) << made.error().message;
    device = std::move(*made);
    if (!options.cublas) device->close_cublas();
    for (Backend* backend : {static_cast<Backend*>(device.get()), static_cast<Backend*>(&reference)})
      EXPECT_TRUE(backend->reserve_scratch(options.largest, options.heads, options.head_dim, 1024, options.vocab));
  }

  float round(float value) const { return options.dtype == DType::f16 ? f16_to_f32(f32_to_f16(value)) : bf16_to_f32(f32_to_bf16(value)); }
  uint16_t bits(float value) const { return options.dtype == DType::f16 ? f32_to_f16(value) : f32_to_bf16(value); }
  /// Half a unit in the last place, relative.
  float epsilon() const { return options.dtype == DType::f16 ? 0x1p-11f : 0x1p-8f; }

  /// Normally distributed around `mean`.
  std::vector<float> normal(int64_t count, float deviation, float mean = 0) {
    std::vector<float> values(static_cast<size_t>(count));
    for (float& value : values) {
      float sum = 0;
      for (int i = 0; i < 6; ++i) sum += static_cast<float>(random.uniform());
      value = round(mean + deviation * (sum - 3) * 1.4142f);
    }
    return values;
  }
  Operand operand(int64_t rows, int64_t cols, float deviation = 1) { return operand(rows, cols, normal(rows * cols, deviation)); }
  Operand operand(int64_t rows, int64_t cols, std::vector<float> values) {
    Operand made;
    made.values = std::move(values);
    made.memory = std::move(*device->allocate(static_cast<size_t>(rows * cols) * 2, "operand"));
    made.device = {made.memory->data(), options.dtype, rows, cols};
    made.reference = {reinterpret_cast<std::byte*>(made.values.data()), DType::f32, rows, cols};
    std::vector<uint16_t> raw;
    for (const float value : made.values) raw.push_back(bits(value));
    EXPECT_TRUE(device->synchronize());
    EXPECT_EQ(cudaMemcpyAsync(made.memory->data(), raw.data(), raw.size() * 2, cudaMemcpyHostToDevice, device->stream()), cudaSuccess);
    return made;
  }
  /// f32 on the device too (logits).
  Operand floats(int64_t rows, int64_t cols, std::vector<float> values) {
    Operand made;
    made.values = std::move(values);
    made.memory = std::move(*device->allocate(static_cast<size_t>(rows * cols) * 4, "logits"));
    made.device = {made.memory->data(), DType::f32, rows, cols};
    made.reference = {reinterpret_cast<std::byte*>(made.values.data()), DType::f32, rows, cols};
    EXPECT_TRUE(device->synchronize());
    EXPECT_EQ(cudaMemcpyAsync(made.memory->data(), made.values.data(), made.values.size() * 4, cudaMemcpyHostToDevice, device->stream()), cudaSuccess);
    return made;
  }
  std::vector<float> read(const Operand& operand) {
    std::vector<float> values(operand.values.size());
    const auto result = device->read(operand.device, values);
    EXPECT_TRUE(result) << result.error().message;
    return values;
  }

  struct Weights {
    std::vector<std::byte> bytes;
    std::unique_ptr<Weight> device, reference;
  };
  Weights weight(int64_t out, int64_t in, float deviation, float mean = 0) { return weight(out, in, normal(out * in, deviation, mean)); }
  Weights weight(int64_t out, int64_t in, const std::vector<float>& values) {
    Weights made;
    const DType dtype = out == 1 ? DType::f32 : options.dtype;
    made.bytes.resize(values.size() * (out == 1 ? 4 : 2));
    for (size_t i = 0; i < values.size(); ++i) {
      const uint16_t raw = bits(values[i]);
      if (out == 1) std::memcpy(&made.bytes[4 * i], &values[i], 4);
      else std::memcpy(&made.bytes[2 * i], &raw, 2);
    }
    auto on_device = device->prepare_weight({.name = "w", .dtype = dtype, .out = out, .in = in, .bytes = made.bytes});
    EXPECT_TRUE(on_device) << on_device.error().message;
    made.device = std::move(*on_device);
    made.reference = std::move(*reference.prepare_weight({.name = "w", .dtype = dtype, .out = out, .in = in, .bytes = made.bytes}));
    return made;
  }
  /// One pool on each side, of the same shape; weights first.
  void make_pools(const KvPoolSpec& spec) {
    KvPoolSpec own = spec;
    own.dtype = options.dtype;
    auto made = device->allocate_kv(own);
    EXPECT_TRUE(made) << made.error().message;
    device_pool = std::move(*made);
    own.dtype = DType::f32;
    reference_pool = std::move(*reference.allocate_kv(own));
  }

  /// Runs `op(backend, step)` on both.
  template <class Op>
  void run(const StepInputs& inputs, Op op) {
    const auto there = device->begin_step(inputs);
    ASSERT_TRUE(there) << there.error().message;
    op(*device, **there, true);
    ASSERT_TRUE(device->end_step());
    const auto finished = device->finish_step();
    ASSERT_TRUE(finished) << finished.error().message;
    op(reference, **reference.begin_step(inputs), false);
  }

  /// |device − reference| ≤ epsilon() · (relative · |reference| + absolute).
  void expect_close(const Operand& operand, float relative, float absolute, const std::string& what) {
    const std::vector<float> got = read(operand);
    double worst = 0;
    size_t at = 0;
    for (size_t i = 0; i < got.size(); ++i) {
      const double error = std::isfinite(got[i]) ? std::abs(double{got[i]} - operand.values[i]) : 1e30;
      const double share = error / (epsilon() * (relative * std::abs(operand.values[i]) + absolute));
      if (share > worst) worst = share, at = i;
    }
    EXPECT_LE(worst, 1) << what << ": [" << at / static_cast<size_t>(operand.device.cols) << ", " << at % static_cast<size_t>(operand.device.cols) << "] is "
                        << got[at] << ", not " << operand.values[at];
  }

  const Options options;
  SplitMix64 random{1};
  std::unique_ptr<cuda::CudaBackend> device;
  ReferenceBackend reference;
  std::unique_ptr<KvPool> device_pool, reference_pool;
};

/// Nothing may be left on the device, and nothing may be wrong with it, between tests.
class OpTest : public testing::Test {
 protected:
  void SetUp() override { emulated::reset_device(); }
  void TearDown() override { EXPECT_EQ(emulated::held(), emulated::Held{}) << "left on the device"; }
};

}  // namespace pagemill
