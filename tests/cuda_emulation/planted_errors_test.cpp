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

TEST_P(PlantedErrorsOnCuda, AreCaught) {
  const auto source = open_random_model(spec_of(GetParam()));
  const auto backend = cuda_backend();
  for (const int32_t chunk : {kTeacherTokens, 16}) {  // by the kernels for many rows, and by those for few
    const auto expect_caught = [&](Backend& spoiled, const char* error) {
      EXPECT_GT(divergence(*source, spoiled, chunk, 0.05).kl, 10 * 2e-4) << error << " in chunks of " << chunk;
    };
    ForwardingBackend faithful(*backend);
    EXPECT_LE(divergence(*source, faithful, chunk, 0.05).kl, 2e-4) << "nothing planted";
    if (chunk != kTeacherTokens) {  // a run's rows follow its first one, which is at 0 there and has nowhere to go
      MaskOffByOneBelow hidden(*backend);
      expect_caught(hidden, "a mask that hides the row itself");
    }
    BlocksSwapped swapped(*backend);
    expect_caught(swapped, "two blocks swapped");
    HalfTheKeysShifted shifted(*backend);
    expect_caught(shifted, "half the keys one position further");
    if (chunk == kTeacherTokens) {
      MaskOffByOne shown(*backend);
      expect_caught(shown, "a mask that shows the future");
      StaleBlock stale(*backend);
      stale.first_token_ = prompt_of(1, 512, 3)[0];
      expect_caught(stale, "a stale block");
    }
    if (std::string(GetParam().architecture) != "qwen2") continue;
    for (const int which : {0, 1, 2}) {
      BiasMissing missing(*backend, which, 2);
      expect_caught(missing, which == 0 ? "no bias of q" : which == 1 ? "no bias of k" : "no bias of v");
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Families, PlantedErrorsOnCuda, testing::ValuesIn(kFamilies), [](const auto& each) { return each.param.name; });

}  // namespace
}  // namespace pagemill
