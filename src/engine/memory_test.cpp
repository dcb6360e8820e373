#include "engine/memory.h"

namespace pagemill {
namespace {

constexpr uint64_t kMiB = 1u << 20;

MemoryRequest request() {
  return {.available = 1000 * kMiB, .weights = 300 * kMiB, .activations = 50 * kMiB, .scratch = 50 * kMiB, .block_bytes = {1 * kMiB},
          .windows = {0}, .model_context = 2048, .max_num_seqs = 4, .max_num_batched_tokens = 128};
}
uint64_t sum(const MemoryPlan& plan) {
  uint64_t bytes = 0;
  for (const MemoryLine& line : plan.table) bytes += line.bytes;
  return bytes;
}

TEST(MemoryPlanTest, AutoTakesTheShareAndTheWholeContext) {
  const auto plan = plan_memory(request());
  ASSERT_TRUE(plan) << plan.error().message;
  EXPECT_EQ(plan->kv_bytes, 250 * kMiB);          // a quarter; 4 × 2048 tokens would be 512 MiB
  EXPECT_EQ(plan->context, 2048);                 // 128 MiB: fits
  EXPECT_EQ(sum(*plan), 1000 * kMiB);
  EXPECT_THAT(format_memory_table(*plan), testing::HasSubstr("--kv-cache-memory-bytes"));
}

TEST(MemoryPlanTest, AutoTakesNoMoreThanTheSequencesNeed) {
  MemoryRequest r = request();
  r.available = 10'000 * kMiB;
  EXPECT_EQ(plan_memory(r)->kv_bytes, 512 * kMiB);
}

TEST(MemoryPlanTest, AutoShortensTheContextToWhatFits) {
  MemoryRequest r = request();
  r.model_context = 32'768;
  const auto plan = plan_memory(r);
  ASSERT_TRUE(plan);
  EXPECT_EQ(plan->context, 250 * 16);
  EXPECT_GE(plan->groups[0].blocks * limits::kBlockTokens, plan->context);
}

TEST(MemoryPlanTest, AnExplicitLengthMayTakeMoreThanTheShareOrNamesTheOneThatFits) {
  MemoryRequest r = request();
  r.model_context = 32'768;
  r.max_model_len = 8192;                         // 512 MiB of 600 left
  const auto plan = plan_memory(r);
  ASSERT_TRUE(plan) << plan.error().message;
  EXPECT_EQ(plan->context, 8192);
  EXPECT_GE(plan->kv_bytes, 512 * kMiB);
  r.max_model_len = 16'384;
  const auto failed = plan_memory(r);
  ASSERT_FALSE(failed);
  EXPECT_EQ(failed.error().code, ErrorCode::out_of_memory);
  EXPECT_THAT(failed.error().message, testing::HasSubstr("9600"));
  r.max_model_len = 9600;
  EXPECT_TRUE(plan_memory(r));
}

TEST(MemoryPlanTest, ExplicitBytesAreTakenOrRefused) {
  MemoryRequest r = request();
  r.kv_bytes = 400 * kMiB;
  EXPECT_EQ(plan_memory(r)->kv_bytes, 400 * kMiB);
  r.kv_bytes = 601 * kMiB;
  EXPECT_EQ(plan_memory(r).error().field, "--kv-cache-memory-bytes");
  r.kv_bytes = kMiB / 2;
  EXPECT_FALSE(plan_memory(r));
}

TEST(MemoryPlanTest, WeightsThatDoNotFitAndContextsThatTheModelHasNot) {
  MemoryRequest r = request();
  r.weights = 990 * kMiB;
  EXPECT_EQ(plan_memory(r).error().code, ErrorCode::out_of_memory);
  r = request();
  r.max_model_len = 4096;
  EXPECT_EQ(plan_memory(r).error().code, ErrorCode::invalid_argument);
}

TEST(MemoryPlanTest, WindowedGroupsHoldOneLongestSequence) {
  MemoryRequest r = request();
  r.block_bytes = {kMiB, kMiB / 4};
  r.windows = {0, 512};
  const auto plan = plan_memory(r);
  ASSERT_TRUE(plan) << plan.error().message;
  EXPECT_GE(plan->groups[0].blocks, plan->context / limits::kBlockTokens);
  EXPECT_GE(plan->groups[1].blocks, (512 + 128) / limits::kBlockTokens + 2);
  EXPECT_LE(plan->kv_bytes, 250 * kMiB);
}

TEST(MemoryBudgetTest, ReservationsNeverExceedTheTotal) {
  MemoryBudget budget(100);
  auto a = budget.reserve("a", 60);
  ASSERT_TRUE(a);
  const auto b = budget.reserve("b", 50);
  ASSERT_FALSE(b);
  EXPECT_EQ(b.error().code, ErrorCode::out_of_memory);
  EXPECT_THAT(b.error().message, testing::HasSubstr("Unload one of: a"));
  EXPECT_FALSE(budget.reserve("a", 1));
  a->reset();
  EXPECT_EQ(budget.free_bytes(), 100u);
  EXPECT_TRUE(budget.reserve("b", 100));
}

TEST(FormatBytesTest, ThreeDigitsOrSo) {
  EXPECT_EQ(format_bytes(512), "512 B");
  EXPECT_EQ(format_bytes(1536), "1.50 KiB");
  EXPECT_EQ(format_bytes(20 * kMiB), "20.0 MiB");
}

}  // namespace
}  // namespace pagemill
