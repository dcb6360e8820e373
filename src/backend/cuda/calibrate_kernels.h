// Launchers of calibrate.cu; as kernels.h.
#pragma once

#include "backend/cuda/kernels.h"

namespace pagemill::cuda {

/// Reads `bytes` (a multiple of 16) once.
cudaError_t read_once(const KernelContext& context, const void* data, int64_t bytes, uint32_t* sink);
/// `count` bfloat16 values, uniform in (-1, 1): products of zeros would run faster than real ones.
cudaError_t fill_bf16(const KernelContext& context, void* to, int64_t count, uint32_t seed);

}  // namespace pagemill::cuda
