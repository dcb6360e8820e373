// Rows of GGUF's element types to and from f32. The block layouts are those of base/dtype.h's types (ggml's).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/dtype.h"

namespace pagemill {

/// One row: `dst` has a multiple of the block's elements, `src` exactly row_bytes(dtype, dst.size()). No alignment needed.
/// Every product and sum is rounded to f32 in the order of the format's formula, so values are equal to gguf-py's bit for bit.
void dequantize_row(DType dtype, std::span<const std::byte> src, std::span<float> dst);

/// The reverse, to the nearest value that a search over scales finds; sizes as above. Values must be finite.
void quantize_row(DType dtype, std::span<const float> src, std::span<std::byte> dst);

/// What a row of `elems` elements is stored as when `wanted` was asked for and its blocks do not divide the row:
/// q4_k → q5_0, q5_k → q5_1, q6_k → q8_0, q2_k and q3_k → iq4_nl, and f16 where not even 32 divides it.
DType fitting_dtype(DType wanted, int64_t elems);

}  // namespace pagemill
