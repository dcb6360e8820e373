#include "engine/step_limits.h"

#include <gtest/gtest.h>

namespace pagemill {
namespace {

DeviceInfo device(DeviceKind kind, uint64_t gib) {
  DeviceInfo info;
  info.kind = kind;
  info.memory_total_bytes = gib << 30;
  return info;
}

TEST(StepLimits, FollowTheDeviceWhereNothingWasAskedFor) {
  const StepLimits cpu = step_limits({}, device(DeviceKind::cpu, 512));
  EXPECT_EQ(cpu.rows, 2048);
  EXPECT_EQ(cpu.max_ms, 200);
  const StepLimits small_gpu = step_limits({}, device(DeviceKind::cuda, 21));
  EXPECT_EQ(small_gpu.rows, 2048);
  EXPECT_EQ(small_gpu.max_ms, 60);
  const StepLimits large_gpu = step_limits({}, device(DeviceKind::cuda, 71));
  EXPECT_EQ(large_gpu.rows, 8192);
  EXPECT_EQ(large_gpu.max_ms, 60);
}

TEST(StepLimits, AreThoseThatWereAskedFor) {
  const StepLimits limits = step_limits({.max_num_batched_tokens = 300, .max_step_ms = 0}, device(DeviceKind::cuda, 71));
  EXPECT_EQ(limits.rows, 300);
  EXPECT_EQ(limits.max_ms, 0);
}

TEST(StepLimits, HaveARowForEverySequence) {
  EXPECT_EQ(step_limits({.max_num_seqs = 5000}, device(DeviceKind::cpu, 8)).rows, 5000);
  EXPECT_EQ(step_limits({.max_num_seqs = 5000, .max_num_batched_tokens = 100}, device(DeviceKind::cpu, 8)).rows, 100);  // refused when the engine loads
}

}  // namespace
}  // namespace pagemill
