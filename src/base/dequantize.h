// Rows of GGUF's element types as f32. The block layouts are those of dtype.h's types (ggml's).
#pragma once

#include <cstddef>
#include <span>

#include "base/dtype.h"

namespace pagemill {

/// One row: `dst` has a multiple of the block's elements, `src` exactly row_bytes(dtype, dst.size()). No alignment needed.
/// Every product and sum is rounded to f32 in the order of the format's formula, so values are equal to gguf-py's bit for bit.
void dequantize_row(DType dtype, std::span<const std::byte> src, std::span<float> dst);

}  // namespace pagemill
