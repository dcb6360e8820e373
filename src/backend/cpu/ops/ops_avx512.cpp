#include "backend/cpu/ops/attention_kernels.h"
#include "backend/cpu/ops/tables.h"

namespace pagemill::ops {

const OpKernels kAvx512 = make_op_kernels<FloatsAvx512>(Isa::avx512);

}  // namespace pagemill::ops
