// The K types' side of quantize_row: one block of 256 values each.
#pragma once

#include <cstddef>

namespace pagemill {

void quantize_block_q2_k(const float* x, std::byte* block);
void quantize_block_q3_k(const float* x, std::byte* block);
void quantize_block_q4_k(const float* x, std::byte* block);
void quantize_block_q5_k(const float* x, std::byte* block);
void quantize_block_q6_k(const float* x, std::byte* block);

}  // namespace pagemill
