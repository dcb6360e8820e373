// AVX-512 BF16 loops.
#include "backend/calibrate_loops.h"

namespace pagemill::calibrate {
namespace {

struct BFloat16 {
  using Acc = __m512;
  using W = __m512i;
  using X = __m512i;
  static constexpr int kWBytes = 64, kXBytes = 64;
  static constexpr double kOps = 64;
  static Acc zero() { return _mm512_setzero_ps(); }
  static W load_w(const unsigned char* p) { return _mm512_load_si512(p); }
  static X load_x(const unsigned char* p) { return load_w(p); }
  static Acc step(Acc acc, W w, X x) { return _mm512_dpbf16_ps(acc, (__m512bh)w, (__m512bh)x); }
};

constexpr ComputeLoop kCompute[] = {
    {"avx512 vdpbf16ps, registers", Kind::float16, 16 * BFloat16::kOps, run_registers<BFloat16, 16>},
    {"avx512 vdpbf16ps, 4x6 tile", Kind::float16, 24 * BFloat16::kOps, run_tile<BFloat16, 4, 6>},
};

}  // namespace

constinit const LoopTable kAvx512Bf16Loops{Need::avx512_bf16, kCompute, std::size(kCompute), nullptr, 0};

}  // namespace pagemill::calibrate
