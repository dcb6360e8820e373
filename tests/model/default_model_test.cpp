// The default model against HF transformers on English, Chinese and code.
#include "format/gguf.h"
#include "model/golden_models.h"
#include "support/model_bench.h"

namespace pagemill {
namespace {

TEST(DefaultModel, LogitsEqualHuggingFace) {
  const auto source = open_gguf(default_model_path());
  ASSERT_TRUE(source) << source.error().message << "\nscript/setup fetches the default model";
  const auto backend = make_reference_backend();
  auto bench = ModelBench::make(**source, *backend, {.rows_max = 64, .logit_rows_max = 64, .kv_blocks = 16});
  ASSERT_TRUE(bench) << bench.error().message;
  const GoldenLogits golden = golden_logits("smollm2-135m-q4_1");
  ASSERT_EQ(golden.texts.size(), 3u);
  std::vector<std::vector<float>> logits;
  for (const GoldenText& text : golden.texts) logits.push_back((*bench)->logits(text.tokens, 64));
  const LogitsDifference difference = compare_logits(golden, logits);
  EXPECT_GE(difference.positions, 500);
  EXPECT_TRUE(difference.equivalent()) << difference.describe();
  std::printf("%s\n", difference.describe().c_str());
}

}  // namespace
}  // namespace pagemill
