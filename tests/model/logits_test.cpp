// Tiny models against HF transformers, on every family, GQA group, RoPE scaling and element type of the goldens.
#include "format/gguf.h"
#include "model/golden_models.h"
#include "model/rope.h"
#include "support/model_bench.h"
#include "support/tiny_model.h"

namespace pagemill {
namespace {

LogitsDifference difference_to_golden(const std::string& name, const TinyModel& model, int32_t chunk, DType kv_dtype = DType::f32) {
  const auto backend = make_reference_backend(2);
  auto bench = ModelBench::make(*model.source, *backend,
                                {.rows_max = 160, .logit_rows_max = 160, .kv_blocks = 16, .kv_dtype = kv_dtype, .overrides = model.overrides});
  EXPECT_TRUE(bench) << bench.error().message;
  if (!bench) return {};
  const GoldenLogits golden = golden_logits(name);
  EXPECT_EQ(golden.vocab, (*bench)->config().vocab);
  std::vector<std::vector<float>> logits;
  for (const GoldenText& text : golden.texts) logits.push_back((*bench)->logits(text.tokens, chunk));
  return compare_logits(golden, logits);
}

class TinyLogits : public testing::TestWithParam<std::string> {};

TEST_P(TinyLogits, EqualHuggingFace) {
  const LogitsDifference difference = difference_to_golden(GetParam(), open_tiny_model(GetParam()), 160);
  EXPECT_TRUE(difference.equivalent()) << difference.describe();
  EXPECT_GE(difference.top1_judged, 140) << difference.describe();
}

TEST_P(TinyLogits, EqualHuggingFaceTokenByToken) {
  const LogitsDifference difference = difference_to_golden(GetParam(), open_tiny_model(GetParam()), 1);
  EXPECT_TRUE(difference.equivalent()) << difference.describe();
}

// Rounding keys and values to 16 bits moves logits, but far less than any mistake would.
TEST_P(TinyLogits, StayCloseWithKeysAndValuesIn16Bits) {
  const LogitsDifference in_f16 = difference_to_golden(GetParam(), open_tiny_model(GetParam()), 160, DType::f16);
  EXPECT_LT(in_f16.share_max, 0.02) << in_f16.describe();
  EXPECT_GT(in_f16.share_max, 0);
  const LogitsDifference in_bf16 = difference_to_golden(GetParam(), open_tiny_model(GetParam()), 160, DType::bf16);
  EXPECT_LT(in_bf16.share_max, 0.15) << in_bf16.describe();
  EXPECT_GT(in_bf16.share_max, in_f16.share_max);
}

INSTANTIATE_TEST_SUITE_P(All, TinyLogits, testing::ValuesIn(tiny_model_names()), [](const auto& instance) {
  std::string name = instance.param;
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
});

// Converters write Llama 3.1's scaling as a tensor of divisors.
TEST(RopeFrequencies, OfTheFileEqualTheScaling) {
  const TinyModel scaled = open_tiny_model("tiny-llama-gqa3");
  const auto config = read_model_config(*scaled.source, scaled.overrides);
  ASSERT_TRUE(config) << config.error().message;
  RopeConfig plain = config->rope;
  plain.scaling = RopeScaling::none;
  const RopeTable with = make_rope_table(config->rope), without = make_rope_table(plain);
  std::vector<float> divisors;
  for (size_t i = 0; i < with.inv_freq.size(); ++i) divisors.push_back(without.inv_freq[i] / with.inv_freq[i]);
  EXPECT_GT(divisors.back(), 7.9f);
  const LogitsDifference difference = difference_to_golden("tiny-llama-gqa3", open_tiny_model("tiny-llama-gqa3", divisors), 160);
  EXPECT_TRUE(difference.equivalent()) << difference.describe();
}

TEST(Comparison, SeesASingleLogitOutOfPlace) {
  GoldenLogits golden{.vocab = 8, .texts = {{.name = "t", .tokens = {1}, .rows = {{.min = -1, .max = 3, .top_ids = {4}, .top_values = {3}, .some = {0, 1}}}}}};
  golden.texts[0].rows[0].top_ids.push_back(5);
  golden.texts[0].rows[0].top_values.push_back(1);
  const std::vector<float> same{0, 0, 0, -1, 3, 1, 0, 0};  // some: tokens 0 and 4
  golden.texts[0].rows[0].some = {0, 3};
  EXPECT_TRUE(compare_logits(golden, {same}).equivalent());
  for (size_t token : {0, 3, 4, 5}) {
    std::vector<float> moved = same;
    moved[token] += 0.01f;
    EXPECT_FALSE(compare_logits(golden, {moved}).equivalent()) << token;
    moved[token] = std::numeric_limits<float>::quiet_NaN();
    EXPECT_FALSE(compare_logits(golden, {moved}).equivalent()) << token;
  }
  std::vector<float> overtaken = same;
  overtaken[7] = 3.5f;
  EXPECT_FALSE(compare_logits(golden, {overtaken}).equivalent());
}

}  // namespace
}  // namespace pagemill
