// attention_prefill.cu's way to the sm_90a kernel (attention_hopper.cu).
#pragma once

#include "backend/cuda/kernels.h"

namespace pagemill::cuda {

bool has_hopper_attention(const KernelContext& context, int head_dim);
cudaError_t hopper_prefill_attention(const KernelContext& context, const AttentionArgs& args);

}  // namespace pagemill::cuda
