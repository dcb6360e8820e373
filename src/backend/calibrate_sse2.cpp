// The loops that every x86-64 CPU can run.
#include "backend/calibrate_loops.h"

namespace pagemill::calibrate {
namespace {

struct Float32 {
  using Acc = __m128;
  using W = __m128;
  using X = __m128;
  [[maybe_unused]] static constexpr int kWBytes = 16, kXBytes = 16;
  static constexpr double kOps = 8;
  static Acc zero() { return _mm_setzero_ps(); }
  static W load_w(const unsigned char* p) { return _mm_load_ps(reinterpret_cast<const float*>(p)); }
  static X load_x(const unsigned char* p) { return load_w(p); }
  static Acc step(Acc acc, W w, X x) { return _mm_add_ps(acc, _mm_mul_ps(w, x)); }
};

/// SSE2 has no 8-bit product: values that were widened to 16 bits.
struct Int8Widened {
  using Acc = __m128i;
  using W = __m128i;
  using X = __m128i;
  [[maybe_unused]] static constexpr int kWBytes = 16, kXBytes = 16;
  static constexpr double kOps = 16;
  static Acc zero() { return _mm_setzero_si128(); }
  static W load_w(const unsigned char* p) { return _mm_load_si128(reinterpret_cast<const __m128i*>(p)); }
  static X load_x(const unsigned char* p) { return load_w(p); }
  static Acc step(Acc acc, W w, X x) { return _mm_add_epi32(acc, _mm_madd_epi16(w, x)); }
};

constexpr ComputeLoop kCompute[] = {
    {"sse2 mul + add, registers", Kind::float32, 10 * Float32::kOps, run_registers<Float32, 10>},
    {"sse2 madd of widened int8, registers", Kind::int8, 10 * Int8Widened::kOps, run_registers<Int8Widened, 10>},
};
constexpr ReadLoop kRead[] = {
    {"sse2 loads", run_read<__m128i, 1, 0>},
};

}  // namespace

constinit const LoopTable kSse2Loops{Need::nothing, kCompute, std::size(kCompute), kRead, std::size(kRead)};

}  // namespace pagemill::calibrate
