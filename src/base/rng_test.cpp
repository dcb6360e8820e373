#include "base/rng.h"

#include <cmath>

namespace pagemill {
namespace {

// Known answers of Random123's kat_vectors for philox4x32-10.
TEST(Philox, MatchesTheAuthorsVectors) {
  EXPECT_EQ(philox4x32({0, 0, 0, 0}, {0, 0}), (std::array<uint32_t, 4>{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(philox4x32({~0u, ~0u, ~0u, ~0u}, {~0u, ~0u}),
            (std::array<uint32_t, 4>{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(philox4x32({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
            (std::array<uint32_t, 4>{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(SamplingUniform, DependsOnEachPartAndStaysInRange) {
  EXPECT_EQ(sampling_uniform(1, 2), sampling_uniform(1, 2));
  EXPECT_NE(sampling_uniform(1, 2), sampling_uniform(2, 2));
  EXPECT_NE(sampling_uniform(1, 2), sampling_uniform(1, 3));
  EXPECT_NE(sampling_uniform(1, 2), sampling_uniform(1, 2, 1));
  double sum = 0;
  for (uint64_t i = 0; i < 10'000; ++i) {
    const float u = sampling_uniform(7, i);
    ASSERT_GE(u, 0.0f);
    ASSERT_LT(u, 1.0f);
    sum += u;
  }
  EXPECT_NEAR(sum / 10'000, 0.5, 0.02);
}

TEST(SplitMix64, BelowStaysBelow) {
  SplitMix64 rng(3);
  for (int i = 0; i < 1000; ++i) EXPECT_LT(rng.below(7), 7u);
}

}  // namespace
}  // namespace pagemill
