// skinny.cu's way to the sm_90a kernels (skinny_hopper.cu). Only for context.arch == 90 and rows ≤ kSkinnyRows.
#pragma once

#include "backend/cuda/skinny_ops.h"

namespace pagemill::cuda {

inline constexpr int kHopperRowsMin = 9, kSkinnyRows = 64;

cudaError_t hopper_product(const KernelContext& context, const PlainOp<__half>& op, const __half* x, int rows);
cudaError_t hopper_product(const KernelContext& context, const PlainOp<__nv_bfloat16>& op, const __nv_bfloat16* x, int rows);
cudaError_t hopper_product(const KernelContext& context, const GatedOp<__half>& op, const __half* x, int rows);
cudaError_t hopper_product(const KernelContext& context, const GatedOp<__nv_bfloat16>& op, const __nv_bfloat16* x, int rows);
cudaError_t hopper_product(const KernelContext& context, const QkvOp<__half>& op, const __half* x, int rows);
cudaError_t hopper_product(const KernelContext& context, const QkvOp<__nv_bfloat16>& op, const __nv_bfloat16* x, int rows);

}  // namespace pagemill::cuda
