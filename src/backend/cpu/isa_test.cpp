#include "backend/cpu/isa.h"

#include <algorithm>

namespace pagemill {
namespace {

TEST(Isa, ListsWhatThisCpuHasNarrowestFirst) {
  const std::vector<Isa> isas = available_isas();
  ASSERT_FALSE(isas.empty());
  EXPECT_EQ(isas.front(), Isa::plain);
  EXPECT_TRUE(std::is_sorted(isas.begin(), isas.end()));
  EXPECT_EQ(best_isa(), isas.back());
}

TEST(Isa, ParsesEveryNameThatThisCpuHasAndRefusesTheRest) {
  EXPECT_EQ(parse_isa("auto").value(), best_isa());
  for (int i = 0; i < kIsaCount; ++i) {
    const Isa isa = static_cast<Isa>(i);
    const auto parsed = parse_isa(to_string(isa));
    ASSERT_EQ(parsed.has_value(), isa_available(isa)) << to_string(isa);
    if (parsed) EXPECT_EQ(*parsed, isa);
    else EXPECT_EQ(parsed.error().code, ErrorCode::unsupported);
  }
  const auto unknown = parse_isa("sse9");
  ASSERT_FALSE(unknown);
  EXPECT_EQ(unknown.error().field, "--isa");
  EXPECT_NE(unknown.error().message.find("plain"), std::string::npos);
}

}  // namespace
}  // namespace pagemill
