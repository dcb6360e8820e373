// The comparison with HF's logits must fail for each mistake that would otherwise pass as a slightly worse model.
#include "model/golden_models.h"
#include "support/cpu_backends.h"
#include "support/model_bench.h"
#include "support/planted_errors.h"
#include "support/tiny_model.h"

namespace pagemill {
namespace {

LogitsDifference difference_to_golden(const std::string& name, Backend& backend, int32_t chunk) {
  const TinyModel model = open_tiny_model(name);
  auto bench = ModelBench::make(*model.source, backend, {.rows_max = 160, .logit_rows_max = 160, .kv_blocks = 16, .overrides = model.overrides});
  EXPECT_TRUE(bench) << bench.error().message;
  const GoldenLogits golden = golden_logits(name);
  // The pool holds another sequence's keys and values before, as in a server that has run for a while.
  (*bench)->logits(std::vector<int32_t>(golden.texts[0].tokens.rbegin(), golden.texts[0].tokens.rend()), 160);
  return compare_logits(golden, {(*bench)->logits(golden.texts[0].tokens, chunk)});
}

class PlantedErrors : public testing::TestWithParam<std::tuple<std::string, std::string>> {
 protected:
  void expect_caught(Backend& spoiled) {
    const LogitsDifference difference = difference_to_golden(model_, spoiled, 160);
    EXPECT_FALSE(difference.equivalent()) << difference.describe();
    EXPECT_GT(difference.share_max, 1e-2) << "caught, but only just: " << difference.describe();
  }
  const std::string model_ = std::get<0>(GetParam());
  std::unique_ptr<Backend> backend_ = open_cpu_backend(std::get<1>(GetParam()));
};

TEST_P(PlantedErrors, NothingPlantedPasses) {
  ForwardingBackend faithful(*backend_);
  const LogitsDifference difference = difference_to_golden(model_, faithful, 160);
  EXPECT_TRUE(difference.equivalent()) << difference.describe();
}

TEST_P(PlantedErrors, MaskThatShowsTheFuture) {
  MaskOffByOne spoiled(*backend_);
  expect_caught(spoiled);
}

TEST_P(PlantedErrors, MaskThatHidesTheRowItself) {
  MaskOffByOneBelow spoiled(*backend_);
  expect_caught(spoiled);
}

TEST_P(PlantedErrors, TwoBlocksSwapped) {
  BlocksSwapped spoiled(*backend_);
  expect_caught(spoiled);
}

TEST_P(PlantedErrors, HalfTheKeysOnePositionFurther) {
  HalfTheKeysShifted spoiled(*backend_);
  expect_caught(spoiled);
}

TEST_P(PlantedErrors, StaleBlock) {
  StaleBlock spoiled(*backend_);
  expect_caught(spoiled);
}

using PlantedErrorsWithBiases = PlantedErrors;

TEST_P(PlantedErrorsWithBiases, MissingBias) {
  for (const int which : {0, 1, 2}) {
    BiasMissing spoiled(*backend_, which, 3);
    expect_caught(spoiled);
  }
}

std::string name_of(const testing::TestParamInfo<std::tuple<std::string, std::string>>& instance) {
  return test_name(std::get<0>(instance.param) + "_" + std::get<1>(instance.param));
}

INSTANTIATE_TEST_SUITE_P(All, PlantedErrors, testing::Combine(testing::ValuesIn(tiny_model_names()), testing::ValuesIn(cpu_backend_names())), name_of);
INSTANTIATE_TEST_SUITE_P(Qwen2, PlantedErrorsWithBiases,
                         testing::Combine(testing::Values("tiny-qwen2-gqa7", "tiny-qwen2-tied"), testing::ValuesIn(cpu_backend_names())), name_of);

}  // namespace
}  // namespace pagemill
