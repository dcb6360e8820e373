// AVX-VNNI loops.
#include "backend/calibrate_loops.h"

namespace pagemill::calibrate {
namespace {

struct Int8Vnni {
  using Acc = __m256i;
  using W = __m256i;
  using X = __m256i;
  static constexpr int kWBytes = 32, kXBytes = 32;
  static constexpr double kOps = 64;
  static Acc zero() { return _mm256_setzero_si256(); }
  static W load_w(const unsigned char* p) { return _mm256_load_si256(reinterpret_cast<const __m256i*>(p)); }
  static X load_x(const unsigned char* p) { return load_w(p); }
  static Acc step(Acc acc, W w, X x) { return _mm256_dpbusd_avx_epi32(acc, w, x); }
};

constexpr ComputeLoop kCompute[] = {
    {"avx_vnni vpdpbusd ymm, registers", Kind::int8, 12 * Int8Vnni::kOps, run_registers<Int8Vnni, 12>},
    {"avx_vnni vpdpbusd ymm, 2x5 tile", Kind::int8, 10 * Int8Vnni::kOps, run_tile<Int8Vnni, 2, 5>},
};

}  // namespace

constinit const LoopTable kAvxVnniLoops{Need::avx_vnni, kCompute, std::size(kCompute), nullptr, 0};

}  // namespace pagemill::calibrate
