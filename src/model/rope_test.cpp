// Frequencies against HF's own functions (script/goldens/logits.py) at the sizes of real models.
#include "model/rope.h"

#include <cmath>
#include <fstream>
#include <iterator>

#include "base/json.h"
#include "model/config_overrides.h"
#include "support/paths.h"

namespace pagemill {
namespace {

TEST(RopeTable, EqualsHuggingFaceForEveryScaling) {
  std::ifstream file(test::source_path("tests/model/goldens/rope.json"));
  const std::string text{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  const auto golden = parse_json(text);
  ASSERT_TRUE(golden) << golden.error().message;
  const json::array& cases = golden->at("cases").as_array();
  EXPECT_EQ(cases.size(), 5u);
  for (const json::value& entry : cases) {
    ModelConfig config;
    config.context_max = entry.at("context").to_number<int32_t>();
    config.rope.theta = entry.at("theta").to_number<double>();
    config.rope.rotary_dim = entry.at("head_dim").to_number<int32_t>();
    const auto applied = apply_overrides({{"rope_parameters", entry.at("rope_parameters")}}, config);
    ASSERT_TRUE(applied) << applied.error().message;
    const RopeTable table = make_rope_table(config.rope);
    const json::array& expected = entry.at("inv_freq").as_array();
    ASSERT_EQ(table.inv_freq.size(), expected.size());
    for (size_t i = 0; i < expected.size(); ++i) {
      const double value = expected[i].to_number<double>();
      EXPECT_NEAR(table.inv_freq[i], value, 5e-7 * value) << entry.at("name") << " pair " << i;  // HF works in f32
    }
    EXPECT_NEAR(table.scale, entry.at("scale").to_number<double>(), 1e-6) << entry.at("name");
  }
}

TEST(RopeTable, PlainFrequencies) {
  const RopeTable table = make_rope_table({.theta = 10'000, .rotary_dim = 8});
  ASSERT_EQ(table.inv_freq.size(), 4u);
  EXPECT_FLOAT_EQ(table.inv_freq[0], 1);
  EXPECT_FLOAT_EQ(table.inv_freq[1], 0.1f);
  EXPECT_FLOAT_EQ(table.inv_freq[3], 0.001f);
  EXPECT_EQ(table.scale, 1);
}

TEST(RopeTable, DivisorsApplyLast) {
  const RopeTable table = make_rope_table({.theta = 100, .rotary_dim = 4, .scaling = RopeScaling::linear, .factor = 2, .freq_divisors = {1, 5}});
  EXPECT_FLOAT_EQ(table.inv_freq[0], 0.5f);
  EXPECT_FLOAT_EQ(table.inv_freq[1], 0.01f);
}

// However odd the numbers, frequencies are finite: what read_model_config lets pass must not end in NaN.
TEST(RopeTable, StaysFiniteAtTheBounds) {
  for (const double theta : {kRopeThetaMin, 1e4, kRopeThetaMax})
    for (const int32_t original : {1, 7, 1 << 24})
      for (const double factor : {1.0, kRopeFactorMax})
        for (const RopeScaling scaling : {RopeScaling::linear, RopeScaling::yarn, RopeScaling::llama3}) {
          const RopeTable table = make_rope_table({.theta = theta, .rotary_dim = 64, .scaling = scaling, .factor = factor, .original_context = original});
          for (const float frequency : table.inv_freq) EXPECT_TRUE(std::isfinite(frequency) && frequency >= 0) << theta << " " << original;
          EXPECT_TRUE(std::isfinite(table.scale));
        }
}

}  // namespace
}  // namespace pagemill
