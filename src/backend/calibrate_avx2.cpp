// AVX2 loops with FMA and F16C.
#include "backend/calibrate_loops.h"

namespace pagemill::calibrate {
namespace {

struct Float32 {
  using Acc = __m256;
  using W = __m256;
  using X = __m256;
  static constexpr int kWBytes = 32, kXBytes = 32;
  static constexpr double kOps = 16;
  static Acc zero() { return _mm256_setzero_ps(); }
  static W load_w(const unsigned char* p) { return _mm256_load_ps(reinterpret_cast<const float*>(p)); }
  static X load_x(const unsigned char* p) { return load_w(p); }
  static Acc step(Acc acc, W w, X x) { return _mm256_fmadd_ps(w, x, acc); }
};

/// Half-precision weights, converted when they are loaded, times single-precision values.
struct Float16 : Float32 {
  static constexpr int kWBytes = 16;
  static W load_w(const unsigned char* p) { return _mm256_cvtph_ps(_mm_load_si128(reinterpret_cast<const __m128i*>(p))); }
};

struct Int8Base {
  using Acc = __m256i;
  using W = __m256i;
  using X = __m256i;
  static constexpr int kWBytes = 32, kXBytes = 32;
  static constexpr double kOps = 64;
  static Acc zero() { return _mm256_setzero_si256(); }
  static W load_w(const unsigned char* p) { return _mm256_load_si256(reinterpret_cast<const __m256i*>(p)); }
  static X load_x(const unsigned char* p) { return load_w(p); }
};

struct Int8 : Int8Base {
  static Acc step(Acc acc, W w, X x) {
    return _mm256_add_epi32(acc, _mm256_madd_epi16(_mm256_maddubs_epi16(x, w), _mm256_set1_epi16(1)));
  }
};

/// 4-bit weights leave room to add four 16-bit products before they are widened.
struct Int8By4 : Int8Base {
  static constexpr double kOps = 4 * 64;
  static Acc step(Acc acc, W w, X x) {
    __m256i sum = _mm256_maddubs_epi16(x, w);
    for (int i = 0; i < 3; ++i) {
      hide(w);
      sum = _mm256_add_epi16(sum, _mm256_maddubs_epi16(x, w));
    }
    return _mm256_add_epi32(acc, _mm256_madd_epi16(sum, _mm256_set1_epi16(1)));
  }
};

constexpr ComputeLoop kCompute[] = {
    {"avx2 fma, registers", Kind::float32, 12 * Float32::kOps, run_registers<Float32, 12>},
    {"avx2 fma, 2x5 tile", Kind::float32, 10 * Float32::kOps, run_tile<Float32, 2, 5>},
    {"f16c + avx2 fma, 2x5 tile", Kind::float16, 10 * Float16::kOps, run_tile<Float16, 2, 5>},
    {"avx2 maddubs + madd + add, registers", Kind::int8, 10 * Int8::kOps, run_registers<Int8, 10>},
    {"avx2 maddubs + madd + add, 2x5 tile", Kind::int8, 10 * Int8::kOps, run_tile<Int8, 2, 5>},
    {"avx2 4 maddubs to one madd, registers", Kind::int8, 8 * Int8By4::kOps, run_registers<Int8By4, 8>},
};
constexpr ReadLoop kRead[] = {
    {"avx2 loads", run_read<__m256i, 1, 0>},
    {"avx2 loads with prefetch", run_read<__m256i, 1, 2048>},
    {"avx2 loads, 4 streams", run_read<__m256i, 4, 0>},
};

}  // namespace

constinit const LoopTable kAvx2Loops{Need::avx2, kCompute, std::size(kCompute), kRead, std::size(kRead)};

}  // namespace pagemill::calibrate
