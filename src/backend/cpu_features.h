// Which instruction sets this CPU has and the operating system lets programs use.
#pragma once

#include <string>

#include "base/result.h"

namespace pagemill {

struct CpuFeatures {
  bool avx2 = false;         // with FMA and F16C
  bool avx_vnni = false;
  bool avx512 = false;       // F, BW, DQ and VL
  bool avx512_vnni = false;
  bool avx512_bf16 = false;
  bool amx = false;          // tiles, int8 and bf16; says nothing of the operating system
  bool tile_state = false;   // the operating system saves tile registers (XCR0 bits 17 and 18)
};

/// Read once; safe from any thread.
const CpuFeatures& cpu_features();

/// Whether this process may use AMX's tiles; else what is missing. The first call asks Linux for the permission, which holds for all threads of the
/// process (arch_prctl ARCH_REQ_XCOMP_PERM: without it the first tile instruction is a SIGILL). Safe from any thread.
const Result<void>& amx_usable();
/// The same for a CPU and an answer of the system: `request` gives 0 or an errno.
Result<void> amx_usable(const CpuFeatures& features, int (*request)());

/// The widest sets, in words: "avx512 vnni bf16", "avx2", "sse2".
std::string describe(const CpuFeatures& features);

/// The processor's own name, or "unknown CPU".
std::string cpu_model_name();

}  // namespace pagemill
