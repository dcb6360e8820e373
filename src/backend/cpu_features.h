// Which instruction sets this CPU has and the operating system lets programs use.
#pragma once

#include <string>

namespace pagemill {

struct CpuFeatures {
  bool avx2 = false;         // with FMA and F16C
  bool avx_vnni = false;
  bool avx512 = false;       // F, BW, DQ and VL
  bool avx512_vnni = false;
  bool avx512_bf16 = false;
};

/// Read once; safe from any thread.
const CpuFeatures& cpu_features();

/// The widest sets, in words: "avx512 vnni bf16", "avx2", "sse2".
std::string describe(const CpuFeatures& features);

/// The processor's own name, or "unknown CPU".
std::string cpu_model_name();

}  // namespace pagemill
