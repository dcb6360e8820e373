// Sums in one fixed order. Every dot product of the reference runs through here, so its value depends on its two operands alone:
// not on the number of rows of the step, not on how rows are spread over threads.
#pragma once

#include <cstdint>
#include <cstring>

namespace pagemill {

/// Four floats that the compiler keeps in one register (a GCC and clang extension; SSE2 on baseline x86-64).
using Float4 = float __attribute__((vector_size(16)));

inline Float4 load4(const float* from) {
  Float4 value;
  std::memcpy(&value, from, sizeof value);
  return value;
}

/// The order: element k is added to partial sum k mod 16, ascending; the partial sums are added as a tree
/// (j + 8, j + 4, then the last four pairwise).
inline float reduce16(const Float4 (&partial)[4]) {
  const Float4 sum = (partial[0] + partial[2]) + (partial[1] + partial[3]);
  return (sum[0] + sum[2]) + (sum[1] + sum[3]);
}

/// out[r] = Σ_k weight[k] · x[r][k] for `Rows` rows at once: a weight is loaded once for all of them. Each row's sum has the order
/// above whatever Rows is.
template <int Rows>
inline void dot_rows(const float* weight, const float* const (&x)[Rows], int64_t n, float (&out)[Rows]) {
  Float4 partial[Rows][4] = {};
  int64_t k = 0;
  for (; k + 16 <= n; k += 16) {
    for (int lane = 0; lane < 4; ++lane) {
      const Float4 w = load4(weight + k + lane * 4);
      for (int row = 0; row < Rows; ++row) partial[row][lane] += w * load4(x[row] + k + lane * 4);
    }
  }
  for (int j = 0; k + j < n; ++j)
    for (int row = 0; row < Rows; ++row) partial[row][j / 4][j % 4] += weight[k + j] * x[row][k + j];
  for (int row = 0; row < Rows; ++row) out[row] = reduce16(partial[row]);
}

inline float dot(const float* a, const float* b, int64_t n) {
  const float* const rows[1] = {b};
  float out[1];
  dot_rows<1>(a, rows, n, out);
  return out[0];
}

}  // namespace pagemill
