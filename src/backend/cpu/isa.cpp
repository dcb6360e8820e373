#include "backend/cpu/isa.h"

#include <fmt/format.h>

#include "backend/cpu_features.h"
#include "base/check.h"

namespace pagemill {
namespace {

constexpr std::string_view kNames[kIsaCount] = {"plain", "avx2", "avx_vnni", "avx512", "avx512_vnni", "amx"};

/// What keeps this machine from running an instruction set that it does not have.
std::string missing(Isa isa) {
  if (isa == Isa::amx && isa_available(Isa::avx512_vnni)) return amx_usable().error().message;
  return "this CPU does not have it";
}

}  // namespace

std::string_view to_string(Isa isa) { return kNames[static_cast<int>(isa)]; }

bool isa_available(Isa isa) {
  const CpuFeatures& cpu = cpu_features();
  switch (isa) {
    case Isa::plain: return true;
    case Isa::avx2: return cpu.avx2;
    case Isa::avx_vnni: return cpu.avx_vnni;
    case Isa::avx512: return cpu.avx512;
    case Isa::avx512_vnni: return cpu.avx512_vnni && cpu.avx512_bf16;
    case Isa::amx: return cpu.avx512_vnni && cpu.avx512_bf16 && amx_usable();
  }
  PM_CHECK(false, "not an ISA");
  return false;
}

std::vector<Isa> available_isas() {
  std::vector<Isa> list;
  for (int i = 0; i < kIsaCount; ++i)
    if (isa_available(static_cast<Isa>(i))) list.push_back(static_cast<Isa>(i));
  return list;
}

Isa best_isa() { return available_isas().back(); }

Result<Isa> parse_isa(std::string_view name) {
  if (name == "auto") return best_isa();
  std::string offered = "auto";
  for (const Isa isa : available_isas()) offered += fmt::format(", {}", to_string(isa));
  for (int i = 0; i < kIsaCount; ++i) {
    if (name != kNames[i]) continue;
    if (isa_available(static_cast<Isa>(i))) return static_cast<Isa>(i);
    return fail(ErrorCode::unsupported, fmt::format("--isa {}: {}; it runs {}", name, missing(static_cast<Isa>(i)), offered), "--isa");
  }
  return fail(ErrorCode::invalid_argument, fmt::format("--isa {}: not an instruction set; this CPU runs {}", name, offered), "--isa");
}

}  // namespace pagemill
