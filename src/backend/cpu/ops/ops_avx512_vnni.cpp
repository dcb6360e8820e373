// The operations for avx512_vnni: avx512's, with attention in bf16 as well.
#include "backend/cpu/ops/attention_kernels.h"
#include "backend/cpu/ops/tables.h"
#include "backend/cpu/vec/avx512_bf16.h"

namespace pagemill::ops {

const OpKernels kAvx512Vnni = make_op_kernels<WithBf16<FloatsAvx512, vec::Avx512Bf16>>(Isa::avx512_vnni);

}  // namespace pagemill::ops
