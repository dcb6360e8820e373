// The mistakes of design.md, made on the emulated device: each must lie far outside of what engine_test.cpp's LogitsAreTheReferences allows.
#include "cuda_emulation/control.h"
#include "cuda_emulation/families.h"
#include "support/planted_errors.h"

namespace pagemill {
namespace {

class PlantedErrorsOnCuda : public testing::TestWithParam<Family> {
 protected:
  void SetUp() override { emulated::reset_device(); }
  void TearDown() override { EXPECT_EQ(emulated::held(), emulated::Held{}) << "left on the device"; }
};

/// A whole prompt at once is cuBLASLt's product and tiles of many rows; 35 rows are several tiles of attention after a cached part, by the
/// products for up to 64 rows; 16 are one tile. Single rows are decoding: there errors are made in their steps alone.
constexpr Reading kReadings[] = {{kTeacherTokens}, {35}, {16}, {.chunk = 34, .tokens = 34, .singles = 8}};

TEST_P(PlantedErrorsOnCuda, AreCaught) {
  const auto source = open_random_model(spec_of(GetParam()));
  const auto backend = cuda_backend();
  for (const Reading& reading : kReadings) {
    const bool decode = reading.singles > 0, prompt = reading.chunk == kTeacherTokens;
    const auto expect_caught = [&](SpoiledBackend&& spoiled, const char* error) {
      if (decode) spoiled.only_in_steps_of(1);
      EXPECT_GT(divergence(*source, spoiled, reading, 0.05).kl, 10 * 2e-4) << error << (decode ? " in single rows after " : " in chunks of ") << reading.chunk;
    };
    ForwardingBackend faithful(*backend);
    EXPECT_LE(divergence(*source, faithful, reading, 0.05).kl, 2e-4) << "nothing planted, in chunks of " << reading.chunk;
    // Attention has a kernel for runs of rows and one for single rows. A run's rows follow its first one, which is at 0 in a prompt and has nowhere to go.
    if (!prompt) expect_caught(MaskOffByOneBelow(*backend), "a mask that hides the row itself");
    expect_caught(MaskOffByOne(*backend, decode), "a mask that shows the future");
    expect_caught(BlocksSwapped(*backend), "two blocks swapped");
    // Keys are stored by one kernel, whatever the rows.
    if (prompt || decode) {
      expect_caught(HalfTheKeysShifted(*backend), "half the keys one position further");
      expect_caught(StaleBlock(*backend, decode ? 2 : 1), "a stale block");
    }
    // Products: cuBLASLt, for few rows, for one.
    if (std::string(GetParam().architecture) != "qwen2" || reading.chunk == 35) continue;
    expect_caught(BiasMissing(*backend, 0, 2), "no bias of q");
    expect_caught(BiasMissing(*backend, 1, 2), "no bias of k");
    expect_caught(BiasMissing(*backend, 2, 2), "no bias of v");
  }
}

INSTANTIATE_TEST_SUITE_P(Families, PlantedErrorsOnCuda, testing::ValuesIn(kFamilies), [](const auto& each) { return each.param.name; });

}  // namespace
}  // namespace pagemill
