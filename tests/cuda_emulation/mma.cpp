// mma.sync and ldmatrix by PTX's fragment tables.
#include "emulated_ptx.h"

namespace emulated {

namespace {

float half_to_float(uint32_t bits) { return pagemill::f16_to_f32(static_cast<uint16_t>(bits)); }
float bfloat_to_float(uint32_t bits) { return pagemill::bf16_to_f32(static_cast<uint16_t>(bits)); }

template <float (*to_float)(uint32_t)>
void multiply(void** arguments) {
  float a[16][16], b[16][8], c[16][8];
  for (int lane = 0; lane < 32; ++lane) {
    const auto& mine = *static_cast<const MmaArguments*>(arguments[lane]);
    const int group = lane / 4, pair = lane % 4 * 2;
    for (int i = 0; i < 4; ++i) {  // a[0], a[2]: row group; a[1], a[3]: group + 8; a[2], a[3]: k + 8
      const int row = group + i % 2 * 8, k = pair + i / 2 * 8;
      a[row][k] = to_float(mine.a[i]);
      a[row][k + 1] = to_float(mine.a[i] >> 16);
    }
    for (int i = 0; i < 2; ++i) {
      b[pair + i * 8][group] = to_float(mine.b[i]);
      b[pair + i * 8 + 1][group] = to_float(mine.b[i] >> 16);
    }
    for (int i = 0; i < 4; ++i) c[group + i / 2 * 8][pair + i % 2] = mine.c[i];
  }
  for (int row = 0; row < 16; ++row)
    for (int k = 0; k < 16; ++k)
      for (int column = 0; column < 8; ++column) c[row][column] += a[row][k] * b[k][column];
  for (int lane = 0; lane < 32; ++lane) {
    const auto& mine = *static_cast<const MmaArguments*>(arguments[lane]);
    const int group = lane / 4, pair = lane % 4 * 2;
    for (int i = 0; i < 4; ++i) mine.c[i] = c[group + i / 2 * 8][pair + i % 2];
  }
}

template <bool transposed>
void load_matrices(void** arguments) {
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

void complete_mma_f16(void** arguments, unsigned) { multiply<half_to_float>(arguments); }
void complete_mma_bf16(void** arguments, unsigned) { multiply<bfloat_to_float>(arguments); }
void complete_ldmatrix(void** arguments, unsigned) { load_matrices<false>(arguments); }
void complete_ldmatrix_trans(void** arguments, unsigned) { load_matrices<true>(arguments); }

void check_aligned(const void* address, size_t alignment, Place place) {
  if (reinterpret_cast<uintptr_t>(address) % alignment != 0) fault(place, "misaligned address");
}

}  // namespace emulated
