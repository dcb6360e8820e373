// Isa: the instruction sets that the CPU backend has kernels for, narrowest first. Each is an object that can be listed and
// forced; `plain` runs everywhere.
//
// Threads: everything here may be called from any thread.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace pagemill {

enum class Isa : uint8_t {
  plain,        // C++ for the baseline of the architecture
  avx2,         // with FMA and F16C
  avx_vnni,     // AVX2 with vpdpbusd
  avx512,       // F, BW, DQ, VL
  avx512_vnni,  // with VNNI and BF16
  amx,          // that, with tiles of int8 and bf16
};
inline constexpr int kIsaCount = 6;

/// "plain", "avx2", "avx_vnni", "avx512", "avx512_vnni", "amx": the values of --isa.
std::string_view to_string(Isa isa);

/// Whether this CPU and its operating system run it. Asking for amx asks Linux for the permission to use tile registers, once.
bool isa_available(Isa isa);

/// Those of this CPU, narrowest first; never empty.
std::vector<Isa> available_isas();

/// What "auto" takes: the widest of this CPU.
Isa best_isa();

/// "auto" gives best_isa(). The error names the flag, says what is missing and lists what this CPU has.
Result<Isa> parse_isa(std::string_view name);

}  // namespace pagemill
