#include "engine/invariance_test.h"
#include "support/tiny_model.h"

namespace pagemill {
namespace {

class TinyModelEngineTest : public testing::TestWithParam<std::string> {};

TEST_P(TinyModelEngineTest, EveryWayOfRunningIsBitwiseTheSame) {
  const TinyModel tiny = open_tiny_model(GetParam());
  const auto backend = make_reference_backend(2);
  expect_invariant(*tiny.source, *backend, {}, tiny.overrides);
}

INSTANTIATE_TEST_SUITE_P(Models, TinyModelEngineTest, testing::ValuesIn(tiny_model_names()),
                         [](const auto& each) { std::string name = each.param; std::replace(name.begin(), name.end(), '-', '_'); return name; });

}  // namespace
}  // namespace pagemill
