#include "backend/cpu/ops/attention_kernels.h"
#include "backend/cpu/ops/tables.h"

namespace pagemill::ops {

const OpKernels kAvx2 = make_op_kernels<FloatsAvx2>(Isa::avx2);

}  // namespace pagemill::ops
