// The instances of the operations. AVX-VNNI changes none of them: avx_vnni has avx2's.
#pragma once

#include "backend/cpu/ops/ops.h"

namespace pagemill::ops {

extern const OpKernels kPlain, kPlainBf16, kAvx2, kAvx512, kAvx512Vnni, kAmx;

}  // namespace pagemill::ops
