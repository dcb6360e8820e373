// The tables of the files that are compiled for one instruction set each.
#pragma once

#include "backend/cpu/linear/kernels.h"

namespace pagemill::linear_detail {

const LinearKernels& avx2_table();
const LinearKernels& avx_vnni_table();
const LinearKernels& avx512_table();
const LinearKernels& avx512_vnni_table();
const LinearKernels& amx_table(bool deterministic);

}  // namespace pagemill::linear_detail
