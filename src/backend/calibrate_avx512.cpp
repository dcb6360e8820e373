// AVX-512 loops (F, BW, DQ, VL).
#include "backend/calibrate_loops.h"

namespace pagemill::calibrate {
namespace {

struct Float32 {
  using Acc = __m512;
  using W = __m512;
  using X = __m512;
  static constexpr int kWBytes = 64, kXBytes = 64;
  static constexpr double kOps = 32;
  static Acc zero() { return _mm512_setzero_ps(); }
  static W load_w(const unsigned char* p) { return _mm512_load_ps(p); }
  static X load_x(const unsigned char* p) { return load_w(p); }
  static Acc step(Acc acc, W w, X x) { return _mm512_fmadd_ps(w, x, acc); }
};

/// Half-precision weights, converted when they are loaded, times single-precision values.
struct Float16 : Float32 {
  static constexpr int kWBytes = 32;
  static W load_w(const unsigned char* p) { return _mm512_cvtph_ps(_mm256_load_si256(reinterpret_cast<const __m256i*>(p))); }
};

struct Int8 {
  using Acc = __m512i;
  using W = __m512i;
  using X = __m512i;
  static constexpr int kWBytes = 64, kXBytes = 64;
  static constexpr double kOps = 128;
  static Acc zero() { return _mm512_setzero_si512(); }
  static W load_w(const unsigned char* p) { return _mm512_load_si512(p); }
  static X load_x(const unsigned char* p) { return load_w(p); }
  static Acc step(Acc acc, W w, X x) {
    return _mm512_add_epi32(acc, _mm512_madd_epi16(_mm512_maddubs_epi16(x, w), _mm512_set1_epi16(1)));
  }
};

constexpr ComputeLoop kCompute[] = {
    {"avx512 fma, registers", Kind::float32, 16 * Float32::kOps, run_registers<Float32, 16>},
    {"avx512 fma, 4x6 tile", Kind::float32, 24 * Float32::kOps, run_tile<Float32, 4, 6>},
    {"f16c + avx512 fma, 4x6 tile", Kind::float16, 24 * Float16::kOps, run_tile<Float16, 4, 6>},
    {"avx512 maddubs + madd + add, registers", Kind::int8, 16 * Int8::kOps, run_registers<Int8, 16>},
};
constexpr ReadLoop kRead[] = {
    {"avx512 loads", run_read<__m512i, 1, 0>},
    {"avx512 loads with prefetch", run_read<__m512i, 1, 2048>},
    {"avx512 loads, 4 streams", run_read<__m512i, 4, 0>},
};

}  // namespace

constinit const LoopTable kAvx512Loops{Need::avx512, kCompute, std::size(kCompute), kRead, std::size(kRead)};

}  // namespace pagemill::calibrate
