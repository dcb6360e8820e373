// The default model against HF transformers on English, Chinese and code: as it is, and written again in other element types.
#include "base/test_files.h"
#include "format/gguf.h"
#include "format/requantize.h"
#include "model/golden_models.h"
#include "support/model_bench.h"

namespace pagemill {
namespace {

LogitsDifference difference_to_golden(const std::filesystem::path& file, const std::string& model) {
  const auto source = open_gguf(file);
  EXPECT_TRUE(source) << source.error().message << "\nscript/setup fetches the default model";
  if (!source) return {};
  const auto backend = make_reference_backend();
  auto bench = ModelBench::make(**source, *backend, {.rows_max = 64, .logit_rows_max = 64, .kv_blocks = 16});
  EXPECT_TRUE(bench) << bench.error().message;
  if (!bench) return {};
  const GoldenLogits golden = golden_logits(model);
  EXPECT_EQ(golden.texts.size(), 3u);
  std::vector<std::vector<float>> logits;
  for (const GoldenText& text : golden.texts) logits.push_back((*bench)->logits(text.tokens, 64));
  return compare_logits(golden, logits);
}

TEST(DefaultModel, LogitsEqualHuggingFace) {
  const LogitsDifference difference = difference_to_golden(default_model_path(), "smollm2-135m-q4_1");
  EXPECT_GE(difference.positions, 500);
  EXPECT_TRUE(difference.equivalent()) << difference.describe();
  std::printf("%s\n", difference.describe().c_str());
}

class DefaultModelAs : public testing::TestWithParam<std::string> {};

TEST_P(DefaultModelAs, LogitsEqualHuggingFace) {
  const auto source = open_gguf(default_model_path());
  ASSERT_TRUE(source) << source.error().message << "\nscript/setup fetches the default model";
  const TemporaryFolder folder;
  const auto file = folder.path() / "model.gguf";
  const auto written = requantize(**source, *type_mix_from_name(GetParam()), file);
  ASSERT_TRUE(written) << written.error().message;
  const LogitsDifference difference = difference_to_golden(file, "smollm2-135m-" + GetParam());
  EXPECT_GE(difference.positions, 100);
  EXPECT_TRUE(difference.equivalent()) << difference.describe();
  std::printf("%s\n", difference.describe().c_str());
}

INSTANTIATE_TEST_SUITE_P(Types, DefaultModelAs, testing::Values("f16", "q8_0"));

}  // namespace
}  // namespace pagemill
