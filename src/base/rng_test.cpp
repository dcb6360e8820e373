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

TEST(SamplingBits, DependOnEachPartAndAreUniform) {
  EXPECT_EQ(sampling_bits(1, 2), sampling_bits(1, 2));
  EXPECT_NE(sampling_bits(1, 2), sampling_bits(2, 2));
  EXPECT_NE(sampling_bits(1, 2), sampling_bits(1, 3));
  EXPECT_NE(sampling_bits(1, 2), sampling_bits(1, 2, 1));
  EXPECT_NE(sampling_bits(1, 2), sampling_bits(1 | uint64_t{1} << 32, 2));
  EXPECT_NE(sampling_bits(1, 2), sampling_bits(1, 2 | uint64_t{1} << 32));
  std::array<int, 64> ones{};
  for (uint64_t i = 0; i < 10'000; ++i) {
    for (int bit = 0; bit < 64; ++bit) ones[bit] += sampling_bits(7, i) >> bit & 1;
  }
  for (const int count : ones) EXPECT_NEAR(count, 5'000, 250);  // 5 standard deviations
}

TEST(SplitMix64, BelowStaysBelow) {
  SplitMix64 rng(3);
  for (int i = 0; i < 1000; ++i) EXPECT_LT(rng.below(7), 7u);
}

}  // namespace
}  // namespace pagemill
