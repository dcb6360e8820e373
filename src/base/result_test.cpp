#include "base/result.h"

namespace pagemill {
namespace {

Result<int> half(int x) {
  if (x % 2 != 0) return fail(ErrorCode::invalid_argument, "x must be even", "x");
  return x / 2;
}
Result<int> quarter(int x) {
  PM_ASSIGN(const int h, half(x));
  return half(h);
}
Result<void> check_quarter(int x) {
  PM_TRY(quarter(x));
  return {};
}

TEST(Result, MacrosPassValuesAndErrorsOn) {
  EXPECT_EQ(quarter(8).value(), 2);
  EXPECT_EQ(quarter(6).error().field, "x");
  EXPECT_TRUE(check_quarter(4));
  EXPECT_FALSE(check_quarter(2));
}

TEST(Result, ContextStandsBeforeTheMessage) {
  EXPECT_EQ((Error{ErrorCode::io, "no such file", ""}.within("a.gguf").message), "a.gguf: no such file");
}

}  // namespace
}  // namespace pagemill
