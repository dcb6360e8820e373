// How far the fast CPU backend lies from the reference (level_b.h): the default model in every type of weights on every instruction
// set of this CPU, and every type of keys and values. script/numerics prints the same as a table.
#include <cmath>

#include "base/test_files.h"
#include "format/gguf.h"
#include "format/requantize.h"
#include "model/golden_models.h"
#include "support/cpu_backends.h"
#include "support/level_b.h"

namespace pagemill {
namespace {

constexpr size_t kTokens = 1000;  // of each text at most: all that the goldens have, for a perplexity that is known to a third of a percent

void expect_close(const LevelB& found, bool int8, const std::string& what) {
  std::printf("%-28s %s\n", what.c_str(), found.describe().c_str());
  EXPECT_TRUE(found.holds(int8)) << what << ": " << found.describe();
}

class FastPath : public testing::TestWithParam<std::string> {};

TEST_P(FastPath, StaysCloseToTheReferenceInThisType) {
  const auto source = open_gguf(default_model_path());
  ASSERT_TRUE(source) << source.error().message << "\nscript/setup fetches the default model";
  const TemporaryFolder folder;
  const auto file = folder.path() / "model.gguf";
  const TypeMix types = *type_mix_from_name(GetParam());
  const auto written = requantize(**source, types, file);
  ASSERT_TRUE(written) << written.error().message;
  const auto model = open_gguf(file);
  ASSERT_TRUE(model) << model.error().message;

  const auto texts = level_b_texts(kTokens);
  const std::vector<ForcedText> reference = teacher_forced(**model, *open_cpu_backend("reference"), DType::f32, texts);
  const bool int8 = traits(types.base).quantized;
  for (const std::string& isa : fast_backend_names()) {
    if (isa == "plain") continue;  // what it computes is compared bit by bit, op by op; a whole model would take minutes
    expect_close(measure_level_b(reference, teacher_forced(**model, *open_cpu_backend(isa, 2, false), DType::f16, texts)), int8, GetParam() + " on " + isa);
  }
}

INSTANTIATE_TEST_SUITE_P(Types, FastPath, testing::Values("f32", "f16", "bf16", "q4_0", "q4_1", "q5_0", "q5_1", "q8_0", "q2_k", "q3_k_m", "q4_k_m", "q5_k_m", "q6_k", "iq4_nl"),
                         [](const auto& each) { return each.param; });

TEST(FastPathCache, StaysCloseToTheReferenceInEveryTypeOfKeysAndValues) {
  const auto source = open_gguf(default_model_path());
  ASSERT_TRUE(source) << source.error().message << "\nscript/setup fetches the default model";
  const auto texts = level_b_texts(kTokens);
  const std::vector<ForcedText> reference = teacher_forced(**source, *open_cpu_backend("reference"), DType::f32, texts);
  for (const DType dtype : {DType::f32, DType::f16, DType::bf16, DType::q8_0})
    expect_close(measure_level_b(reference, teacher_forced(**source, *open_cpu_backend("auto"), dtype, texts)), true, "keys and values in " + std::string(to_string(dtype)));
}

/// The measure itself: what is out of level is said to be.
TEST(LevelBMeasure, SeesWhatIsOutOfLevel) {
  // Two positions of four tokens; the second's leader is 0.5 ahead of the next.
  const std::vector<ForcedText> reference{{{0, 1}, {3, 1, 0, 0, 2, 1.5f, 0, 0}}};
  EXPECT_TRUE(measure_level_b(reference, reference).holds(false));
  std::vector<ForcedText> other = reference;
  other[0].logits[5] = 2.01f;
  const LevelB switched = measure_level_b(reference, other);
  EXPECT_EQ(switched.switches, 1);
  EXPECT_EQ(switched.positions, 2);
  EXPECT_NEAR(switched.gap_of_worst_switch, 0.5, 1e-6);
  EXPECT_FALSE(switched.holds(false));
  other = reference;
  other[0].logits[0] = 2.9f;  // the next token is 1: perplexity
  EXPECT_FALSE(measure_level_b(reference, other).holds(true));
  other[0].logits[0] = std::nanf("");
  EXPECT_FALSE(measure_level_b(reference, other).holds(true));
}

}  // namespace
}  // namespace pagemill
