// mma.sync and ldmatrix by PTX's fragment tables.
#include "emulated_ptx.h"

namespace emulated {

namespace {

/// A row of B or C: eight floats that the compiler computes with at once.
using Row __attribute__((vector_size(32))) = float;

/// Beyond the end of K every element of A and B is zero: no work then.
bool all_zero(void** arguments) {
  for (int lane = 0; lane < 32; ++lane) {
    const auto& mine = *static_cast<const MmaArguments*>(arguments[lane]);
    if ((mine.a[0] | mine.a[1] | mine.a[2] | mine.a[3] | mine.b[0] | mine.b[1]) != 0) return false;
  }
  return true;
}

template <float (*to_float)(uint16_t)>
void multiply(void** arguments, unsigned mask) {
  if (mask != 0xffffffffu) fault(Place::here(), "mma.sync needs a whole warp");
  if (all_zero(arguments)) {
    for (int lane = 0; lane < 32; ++lane)
      for (int i = 0; i < 4; ++i) static_cast<const MmaArguments*>(arguments[lane])->c[i] += 0.0f;
    return;
  }
  uint16_t a_bits[16][16], b_bits[16][8];
  float a[16][16];
  Row b[16], c[16];
  for (int lane = 0; lane < 32; ++lane) {
    const auto& mine = *static_cast<const MmaArguments*>(arguments[lane]);
    const int group = lane / 4, pair = lane % 4 * 2;
    for (int i = 0; i < 4; ++i) std::memcpy(&a_bits[group + i % 2 * 8][pair + i / 2 * 8], &mine.a[i], 4);  // a[0], a[2]: row group; a[1], a[3]: group + 8; a[2], a[3]: k + 8
    for (int i = 0; i < 2; ++i) {
      b_bits[pair + i * 8][group] = static_cast<uint16_t>(mine.b[i]);
      b_bits[pair + i * 8 + 1][group] = static_cast<uint16_t>(mine.b[i] >> 16);
    }
    for (int i = 0; i < 4; ++i) c[group + i / 2 * 8][pair + i % 2] = mine.c[i];
  }
  for (int row = 0; row < 16; ++row)
    for (int k = 0; k < 16; ++k) a[row][k] = to_float(a_bits[row][k]);
  for (int k = 0; k < 16; ++k)
    for (int column = 0; column < 8; ++column) b[k][column] = to_float(b_bits[k][column]);
  for (int row = 0; row < 16; ++row)
    for (int k = 0; k < 16; ++k) c[row] += a[row][k] * b[k];
  for (int lane = 0; lane < 32; ++lane) {
    const auto& mine = *static_cast<const MmaArguments*>(arguments[lane]);
    const int group = lane / 4, pair = lane % 4 * 2;
    for (int i = 0; i < 4; ++i) mine.c[i] = c[group + i / 2 * 8][pair + i % 2];
  }
}

template <bool transposed>
void load_matrices(void** arguments, unsigned mask) {
  if (mask != 0xffffffffu) fault(Place::here(), "ldmatrix needs a whole warp");
  for (int matrix = 0; matrix < 4; ++matrix) {
    uint16_t elements[8][8];
    for (int row = 0; row < 8; ++row) std::memcpy(elements[row], static_cast<const LdmatrixArguments*>(arguments[matrix * 8 + row])->row, 16);
    for (int lane = 0; lane < 32; ++lane) {
      const int group = lane / 4, pair = lane % 4 * 2;
      const uint16_t low = transposed ? elements[pair][group] : elements[group][pair];
      const uint16_t high = transposed ? elements[pair + 1][group] : elements[group][pair + 1];
      static_cast<const LdmatrixArguments*>(arguments[lane])->r[matrix] = low | static_cast<uint32_t>(high) << 16;
    }
  }
}

}  // namespace

void complete_mma_f16(void** arguments, unsigned mask) { multiply<pagemill::f16_to_f32>(arguments, mask); }
void complete_mma_bf16(void** arguments, unsigned mask) { multiply<pagemill::bf16_to_f32>(arguments, mask); }
void complete_ldmatrix(void** arguments, unsigned mask) { load_matrices<false>(arguments, mask); }
void complete_ldmatrix_trans(void** arguments, unsigned mask) { load_matrices<true>(arguments, mask); }

}  // namespace emulated
