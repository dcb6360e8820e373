#include "backend/calibrate.h"

#include <gtest/gtest.h>

#include "backend/calibrate_kernels.h"
#include "backend/calibrate_parts.h"
#include "backend/cpu_features.h"
#include "base/machine.h"

namespace pagemill {
namespace {

TEST(CpuFeatures, WiderSetsImplyNarrowerOnes) {
  const CpuFeatures& f = cpu_features();
  EXPECT_TRUE(!f.avx512 || f.avx2);
  EXPECT_TRUE(!f.avx512_vnni || f.avx512);
  EXPECT_TRUE(!f.avx512_bf16 || f.avx512);
  EXPECT_TRUE(!f.avx_vnni || f.avx2);
  EXPECT_TRUE(!amx_usable() || (f.amx && f.tile_state));
  EXPECT_EQ(f.avx2, __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"));
  EXPECT_EQ(f.avx512, __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                          __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"));
  EXPECT_FALSE(cpu_model_name().empty());
}

TEST(Calibrate, EachTableSaysWhatItNeeds) {
  using namespace calibrate;
  EXPECT_EQ(kSse2Loops.needs, Need::nothing);
  EXPECT_EQ(kAvx2Loops.needs, Need::avx2);
  EXPECT_EQ(kAvxVnniLoops.needs, Need::avx_vnni);
  EXPECT_EQ(kAvx512Loops.needs, Need::avx512);
  EXPECT_EQ(kAvx512VnniLoops.needs, Need::avx512_vnni);
  EXPECT_EQ(kAvx512Bf16Loops.needs, Need::avx512_bf16);
  EXPECT_EQ(kAmxLoops.needs, Need::amx);
}

TEST(Calibrate, LimitsAreTheBestOfTheVariantsAndPlausible) {
  const MachineLimits limits = measure_machine(0.1);
  EXPECT_EQ(limits.threads, usable_threads());
  ASSERT_GE(limits.variants.size(), 4u);
  double best_read = 0;
  for (const LimitRate& rate : limits.variants) {
    EXPECT_GT(rate.worst, 0) << rate.variant;
    EXPECT_LE(rate.worst, rate.median) << rate.variant;
    EXPECT_LE(rate.median, rate.best) << rate.variant;
    if (rate.variant.find("loads") != std::string::npos) best_read = std::max(best_read, rate.best);
  }
  EXPECT_EQ(limits.read_all_threads.best, best_read);
  EXPECT_GE(limits.read_all_threads.best, limits.read_one_thread.best);
  EXPECT_GE(limits.float16_ops.best, limits.float32_ops.best);
  // No CPU thread reads 1 TB/s, or does 100 Top/s without matrix units.
  EXPECT_LT(limits.read_one_thread.best, 1e12);
  EXPECT_LT(limits.int8_ops.best / limits.threads, 1e14);
}

TEST(Calibrate, ProbesInTurnReadNoPartAgainBeforeAllOthers) {
  const std::byte buffer[1050] = {};
  calibrate::Parts parts(buffer, sizeof buffer, 100);
  for (int round = 0; round < 3; ++round)
    for (int part = 0; part < 10; ++part) EXPECT_EQ(parts.next(), buffer + 100 * part);
}

TEST(Calibrate, TheBetterOfTwoMeasurementsCounts) {
  MachineLimits a, b;
  a.int8_ops = {"a", 3, 2, 1};
  b.int8_ops = {"b", 4, 2, 1};
  a.read_all_threads = {"a", 9, 2, 1};
  b.read_all_threads = {"b", 8, 2, 1};
  const MachineLimits best = best_of(a, b);
  EXPECT_EQ(best.int8_ops.variant, "b");
  EXPECT_EQ(best.read_all_threads.variant, "a");
}

TEST(Calibrate, RereadingTakesAnySize) {
  for (const size_t bytes : {size_t{0}, size_t{1000}, size_t{5} << 20}) {
    const LimitRate rate = measure_reread(bytes, 0);
    EXPECT_GT(rate.worst, 0);
    EXPECT_LE(rate.worst, rate.best);
  }
}

}  // namespace
}  // namespace pagemill
