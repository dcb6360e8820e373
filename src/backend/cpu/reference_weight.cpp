#include "backend/cpu/reference_weight.h"

#include "base/check.h"
#include "base/dequantize.h"

namespace pagemill {

ReferenceWeight::ReferenceWeight(const WeightBytes& weight) {
  source_dtype = weight.dtype;
  out = weight.out;
  in = weight.in;
  device_bytes = device_bytes_of(weight.dtype, weight.out, weight.in);
  bytes_ = weight.bytes.data();
  row_bytes_ = static_cast<size_t>(row_bytes(weight.dtype, weight.in));
  unpermute_head_dim_ = weight.unpermute_head_dim;
  PM_CHECK(out > 0 && in > 0 && weight.bytes.size() == row_bytes_ * static_cast<size_t>(out), "{}", weight.name);
  const int64_t permuted = out == 1 ? in : out;
  PM_CHECK(unpermute_head_dim_ == 0 || (unpermute_head_dim_ % 2 == 0 && permuted % unpermute_head_dim_ == 0), "{}", weight.name);
  if (out > 1) return;
  std::vector<float> in_file_order(static_cast<size_t>(in));
  dequantize_row(weight.dtype, weight.bytes, in_file_order);
  vector_ = in_file_order;
  if (unpermute_head_dim_ != 0)
    for (int64_t n = 0; n < in; ++n)
      vector_[static_cast<size_t>(n)] = in_file_order[static_cast<size_t>(interleaved_row(n, unpermute_head_dim_))];
}

size_t ReferenceWeight::device_bytes_of(DType dtype, int64_t out, int64_t in) {
  return out == 1 ? static_cast<size_t>(in) * sizeof(float) : static_cast<size_t>(row_bytes(dtype, in)) * static_cast<size_t>(out);
}

const float* ReferenceWeight::row(int64_t n, float* scratch) const {
  if (out == 1) return vector_.data();
  const int64_t in_file = unpermute_head_dim_ == 0 ? n : interleaved_row(n, unpermute_head_dim_);
  const std::byte* from = bytes_ + static_cast<size_t>(in_file) * row_bytes_;
  if (source_dtype == DType::f32 && reinterpret_cast<uintptr_t>(from) % alignof(float) == 0) return reinterpret_cast<const float*>(from);
  dequantize_row(source_dtype, {from, row_bytes_}, {scratch, static_cast<size_t>(in)});
  return scratch;
}

}  // namespace pagemill
