#include "backend/cpu/isa.h"

#include <algorithm>
#include <cerrno>

#include "backend/cpu_features.h"

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

TEST(Isa, AmxIsRefusedWithWhatIsMissing) {
  CpuFeatures cpu;
  const auto allow = [] { return 0; };
  const auto refuse = [] { return EPERM; };
  const auto unused = [] {
    ADD_FAILURE() << "nothing is asked of a system that cannot give it";
    return 0;
  };
  EXPECT_NE(amx_usable(cpu, unused).error().message.find("no AMX"), std::string::npos);
  cpu.amx = true;
  EXPECT_NE(amx_usable(cpu, unused).error().message.find("does not save"), std::string::npos);
  cpu.tile_state = true;
  const auto refused = amx_usable(cpu, refuse);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::unsupported);
  EXPECT_NE(refused.error().message.find("arch_prctl"), std::string::npos) << refused.error().message;
  EXPECT_NE(refused.error().message.find("not permitted"), std::string::npos) << refused.error().message;
  EXPECT_TRUE(amx_usable(cpu, allow));
  if (isa_available(Isa::amx)) {
    EXPECT_EQ(parse_isa("amx").value(), Isa::amx);
  } else if (const auto forced = parse_isa("amx"); isa_available(Isa::avx512_vnni)) {
    EXPECT_NE(forced.error().message.find(amx_usable().error().message), std::string::npos) << forced.error().message;
  }
}

}  // namespace
}  // namespace pagemill
