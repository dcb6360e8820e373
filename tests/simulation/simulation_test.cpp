#include "simulation/simulation.h"

#include <random>

namespace pagemill::simulation {
namespace {

Counts expect_clean(uint64_t seed, uint64_t requests) {
  const RunResult result = run_worlds(seed, requests, 500);
  EXPECT_EQ(result.violation, "") << "pagemill-simulate --seed " << result.failing_seed << " --requests 500 --world-requests 500";
  EXPECT_GE(result.counts.requests, requests);
  std::cout << "seed " << seed << "\n" << result.counts.text();
  return result.counts;
}

TEST(SimulationTest, AFixedSliceIsClean) {
  const Counts counts = expect_clean(100, 12'000);
  EXPECT_GE(counts.cancelled * 10, counts.requests * 3);
  EXPECT_GE(counts.preempted * 10, counts.requests);
  // None of what the worlds are made of may go missing unnoticed.
  for (const uint64_t count : {counts.overlapped_worlds, counts.windowed_worlds, counts.deadline, counts.delayed, counts.rejected, counts.forked,
                               counts.constrained, counts.scored, counts.pooled, counts.with_cached}) {
    EXPECT_GT(count, 0u) << counts.text();
  }
}

TEST(SimulationTest, AFreshSeedIsClean) { expect_clean(std::random_device{}(), 6'000); }

TEST(SimulationTest, ASeedGivesTheSameWorldAgain) {
  const WorldResult a = run_world(42, 300), b = run_world(42, 300);
  EXPECT_EQ(a.counts.text(), b.counts.text());
}

class PlantedFaultTest : public testing::TestWithParam<Fault> {};

TEST_P(PlantedFaultTest, IsFoundWithinTenThousandRequests) {
  const RunResult result = run_worlds(7, 10'000, 500, GetParam());
  EXPECT_NE(result.violation, "");
  std::cout << "after " << result.counts.requests << " requests: " << result.violation << "\n";
  EXPECT_EQ(run_world(result.failing_seed, 500, GetParam()).violation, result.violation) << "a failing seed reproduces";
}

INSTANTIATE_TEST_SUITE_P(Faults, PlantedFaultTest, testing::Values(Fault::leaked_block, Fault::double_free, Fault::lost_end, Fault::stale_prefix));

}  // namespace
}  // namespace pagemill::simulation
