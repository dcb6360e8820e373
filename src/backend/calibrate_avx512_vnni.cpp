// AVX-512 VNNI loops.
#include "backend/calibrate_loops.h"

namespace pagemill::calibrate {
namespace {

struct Int8Vnni {
  using Acc = __m512i;
  using W = __m512i;
  using X = __m512i;
  static constexpr int kWBytes = 64, kXBytes = 64;
  static constexpr double kOps = 128;
  static Acc zero() { return _mm512_setzero_si512(); }
  static W load_w(const unsigned char* p) { return _mm512_load_si512(p); }
  static X load_x(const unsigned char* p) { return load_w(p); }
  static Acc step(Acc acc, W w, X x) { return _mm512_dpbusd_epi32(acc, w, x); }
};

constexpr ComputeLoop kCompute[] = {
    {"avx512 vpdpbusd zmm, registers", Kind::int8, 16 * Int8Vnni::kOps, run_registers<Int8Vnni, 16>},
    {"avx512 vpdpbusd zmm, 4x6 tile", Kind::int8, 24 * Int8Vnni::kOps, run_tile<Int8Vnni, 4, 6>},
};

}  // namespace

constinit const LoopTable kAvx512VnniLoops{Need::avx512_vnni, kCompute, std::size(kCompute), nullptr, 0};

}  // namespace pagemill::calibrate
