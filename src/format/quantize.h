// Rows of f32 to GGUF's element types; base/dequantize.h is the way back.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/dequantize.h"
#include "base/dtype.h"

namespace pagemill {

/// One row, to the nearest value that a search over scales finds: `src` has a multiple of the block's elements, `dst` exactly
/// row_bytes(dtype, src.size()). No alignment needed. Values must be finite.
void quantize_row(DType dtype, std::span<const float> src, std::span<std::byte> dst);

/// What a row of `elems` elements is stored as when `wanted` was asked for and its blocks do not divide the row:
/// q4_k → q5_0, q5_k → q5_1, q6_k → q8_0, q2_k and q3_k → iq4_nl, and f16 where not even 32 divides it.
DType fitting_dtype(DType wanted, int64_t elems);

}  // namespace pagemill
