#include "backend/cpu_features.h"

#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstring>

#include <fmt/format.h>

namespace pagemill {
namespace {

struct Registers {
  uint32_t eax = 0, ebx = 0, ecx = 0, edx = 0;
};

/// Zeros where the CPU does not know the leaf.
Registers cpuid(uint32_t leaf, uint32_t subleaf = 0) {
  Registers r;
  if (!__get_cpuid_count(leaf, subleaf, &r.eax, &r.ebx, &r.ecx, &r.edx)) return {};
  return r;
}

bool bit(uint32_t word, int index) { return (word >> index & 1) != 0; }

/// Which register files the operating system saves: bits 1–2 xmm and ymm, 5–7 the mask registers and zmm, 17–18 the tiles' shapes and tiles.
uint64_t enabled_state() {
  uint32_t low = 0, high = 0;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return uint64_t{high} << 32 | low;
}

CpuFeatures detect() {
  const Registers leaf1 = cpuid(1), leaf7 = cpuid(7), leaf7_1 = cpuid(7, 1);
  CpuFeatures f;
  const bool os_saves = bit(leaf1.ecx, 27);
  const uint64_t state = os_saves ? enabled_state() : 0;
  const bool ymm = (state & 0x06) == 0x06, zmm = (state & 0xe6) == 0xe6;
  f.avx2 = ymm && bit(leaf7.ebx, 5) && bit(leaf1.ecx, 12) && bit(leaf1.ecx, 29);
  f.avx_vnni = f.avx2 && bit(leaf7_1.eax, 4);
  f.avx512 = f.avx2 && zmm && bit(leaf7.ebx, 16) && bit(leaf7.ebx, 17) && bit(leaf7.ebx, 30) && bit(leaf7.ebx, 31);
  f.avx512_vnni = f.avx512 && bit(leaf7.ecx, 11);
  f.avx512_bf16 = f.avx512 && bit(leaf7_1.eax, 5);
  f.amx = bit(leaf7.edx, 24) && bit(leaf7.edx, 25) && bit(leaf7.edx, 22);
  f.tile_state = (state & 0x60000) == 0x60000;
  return f;
}

/// Linux gives tile registers only to processes that ask (since 5.16).
int request_tiles() {
  constexpr long kRequestPermission = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0 ? 0 : errno;
}

}  // namespace

const CpuFeatures& cpu_features() {
  static const CpuFeatures features = detect();
  return features;
}

Result<void> amx_usable(const CpuFeatures& features, int (*request)()) {
  if (!features.amx) return fail(ErrorCode::unsupported, "this CPU has no AMX (amx_tile, amx_int8 and amx_bf16)");
  if (!features.tile_state) return fail(ErrorCode::unsupported, "the operating system does not save AMX's tile registers");
  if (const int error = request(); error != 0)
    return fail(ErrorCode::unsupported, fmt::format("Linux refuses AMX's tile registers: arch_prctl(ARCH_REQ_XCOMP_PERM) gave '{}'; it takes Linux 5.16 "
                                                    "and a sandbox that allows the call", std::strerror(error)));
  return {};
}

const Result<void>& amx_usable() {
  static const Result<void> usable = amx_usable(cpu_features(), &request_tiles);
  return usable;
}

std::string describe(const CpuFeatures& f) {
  if (f.avx512) return std::string("avx512") + (f.avx512_vnni ? " vnni" : "") + (f.avx512_bf16 ? " bf16" : "") + (f.amx && f.tile_state ? " amx" : "");
  if (f.avx2) return f.avx_vnni ? "avx2 vnni" : "avx2";
  return "sse2";
}

std::string cpu_model_name() {
  char name[49] = {};
  if (cpuid(0x80000000).eax < 0x80000004) return "unknown CPU";
  for (uint32_t i = 0; i < 3; ++i) {
    const Registers r = cpuid(0x80000002 + i);
    std::memcpy(name + 16 * i, &r, 16);
  }
  std::string text = name;
  const auto first = text.find_first_not_of(' ');
  if (first == std::string::npos) return "unknown CPU";
  return text.substr(first, text.find_last_not_of(' ') - first + 1);
}

}  // namespace pagemill
