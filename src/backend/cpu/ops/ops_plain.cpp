#include "backend/cpu/ops/attention_kernels.h"
#include "backend/cpu/ops/tables.h"

namespace pagemill::ops {

const OpKernels kPlain = make_op_kernels<FloatsPlain>(Isa::plain);

}  // namespace pagemill::ops
