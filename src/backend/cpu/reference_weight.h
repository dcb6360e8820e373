// ReferenceWeight: a weight as the file holds it, turned into f32 a row at a time.
#pragma once

#include <memory>
#include <vector>

#include "backend/backend.h"

namespace pagemill {

class ReferenceWeight final : public Weight {
 public:
  /// A vector (out = 1: norms, biases) is converted at once; a matrix stays where it is mapped.
  explicit ReferenceWeight(const WeightBytes& weight);
  static size_t device_bytes_of(DType dtype, int64_t out, int64_t in);

  /// Row n as f32: in place where it lies so, else converted into scratch[in].
  const float* row(int64_t n, float* scratch) const;

 private:
  std::vector<float> vector_;   // out = 1
  const std::byte* bytes_ = nullptr;
  size_t row_bytes_ = 0;
  int64_t unpermute_head_dim_ = 0;
};

/// The row of the file that row n of the half-split order is (formats.md "Q/K permutation"): of a head's D rows the file
/// interleaves the two halves, 2i + j holds half j's row i.
inline int64_t interleaved_row(int64_t n, int64_t head_dim) {
  const int64_t head = n / head_dim, within = n % head_dim, half = head_dim / 2;
  return head * head_dim + 2 * (within % half) + within / half;
}

}  // namespace pagemill
