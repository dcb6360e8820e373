#include "bench/roofline.h"

#include <gtest/gtest.h>

#include "bench/engine_bench.h"

namespace pagemill {
namespace {

/// 44 GB/s, 1.78 Top/s int8, 0.885 Tflop/s 16-bit, 0.45 Tflop/s f32.
MachineLimits machine() {
  MachineLimits limits;
  limits.read_all_threads.best = 44e9;
  limits.int8_ops.best = 1.78e12;
  limits.float16_ops.best = 0.885e12;
  limits.float32_ops.best = 0.45e12;
  return limits;
}

/// SmolLM2-135M: 106.2 M weights in layers, 28.3 M in the tied head.
ModelWork small_model(double bytes_per_weight) {
  ModelWork work;
  work.weight_bytes = 134.5e6 * bytes_per_weight;
  work.kv_bytes_per_token = 23'040 * 2;
  work.head_weights = 28.3e6;
  return work;
}

TEST(Roofline, DecodeOfOneStreamIsReadingTheWeights) {
  ModelWork work = small_model(1);
  work.int8_weights = 106.2e6;
  EXPECT_NEAR(decode_limit(machine(), work, 1, 0), 44e9 / 134.5e6, 0.1);
  EXPECT_LT(decode_limit(machine(), work, 1, 8192), 0.5 * 44e9 / 134.5e6);
}

TEST(Roofline, ManyStreamsEndAtTheArithmetic) {
  ModelWork work = small_model(1);
  work.int8_weights = 106.2e6;
  EXPECT_NEAR(decode_limit(machine(), work, 4, 0), 4 * decode_limit(machine(), work, 1, 0), 1);
  EXPECT_NEAR(decode_limit(machine(), work, 1000, 0), 1.78e12 / (2 * 134.5e6), 1);
}

TEST(Roofline, PrefillCountsEachWeightAtItsOwnPeak) {
  ModelWork work = small_model(1);
  work.int8_weights = 106.2e6;
  EXPECT_NEAR(prefill_limit(machine(), work), 8380, 1);
  work = small_model(2);
  work.float16_weights = 106.2e6;
  EXPECT_NEAR(prefill_limit(machine(), work), 4167, 1);
  work.int8_weights = work.float16_weights;
  EXPECT_NEAR(1 / prefill_limit(machine(), work), 1 / 8380.4 + 1 / 4166.7, 1e-6);
}

/// Qwen2.5-7B in 16 bits on a GPU of 4.3 TB/s and 700 TFLOP/s: what attention reads comes on top of the products.
TEST(Roofline, AttentionThatRunsByItselfAddsUp) {
  MachineLimits gpu;
  gpu.read_all_threads.best = 4.3e12;
  gpu.float16_ops.best = 700e12;
  ModelWork work;
  work.float16_weights = 6.53e9;
  work.head_weights = 0.545e9;
  work.weight_bytes = 2 * (6.53e9 + 0.545e9);
  work.kv_bytes_per_token = 57'344;
  work.attention_flops = 4.0 * 28 * 128 * 28;
  EXPECT_NEAR(1 / decode_limit(gpu, work, 1, 576), (14.15e9 + 576 * 57'344) / 4.3e12, 1e-8);
  EXPECT_NEAR(256 / decode_limit(gpu, work, 256, 576), 256 * 2 * 7.075e9 / 700e12 + 256.0 * 576 * 57'344 / 4.3e12, 1e-6);
  EXPECT_NEAR(1 / prefill_limit(gpu, work, 2047), (2 * 6.53e9 + 401'408.0 * 1024) / 700e12, 1e-12);
  EXPECT_NEAR(1 / prefill_limit(gpu, work, 2047, 30'000), (2 * 6.53e9 + 401'408.0 * 31'024) / 700e12, 1e-12);
}

TEST(Distrust, NamesWhatIsWrong) {
  EXPECT_EQ(distrust({{100, 105, 95}}, 200), "");
  EXPECT_EQ(distrust({{100}}, 200), "1 run; it takes 3 to see a spread");
  EXPECT_EQ(distrust({{100, 100, 125}}, 200), "the runs differ by 25 %, more than 20 %");
  EXPECT_EQ(distrust({{100, 100, 100}}, 80), "1.25 times what the machine allows");
  EXPECT_EQ(distrust({{0, 0, 0}}, 80), "nothing was measured");
}

TEST(Sample, MedianAndSpread) {
  EXPECT_EQ((Sample{{3, 1, 2}}.median()), 2);
  EXPECT_EQ((Sample{{4, 1, 2, 3}}.median()), 2.5);
  EXPECT_EQ((Sample{{10, 8, 12}}.spread()), 0.4);
  EXPECT_EQ((Sample{{10}}.spread()), 0);
  EXPECT_EQ(Sample{}.median(), 0);
}

}  // namespace
}  // namespace pagemill
