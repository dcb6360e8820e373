// The instances of the operations. VNNI changes none of them: their instruction sets share the tables of the wider ones they contain.
#pragma once

#include "backend/cpu/ops/ops.h"

namespace pagemill::ops {

extern const OpKernels kPlain, kAvx2, kAvx512, kAmx;

}  // namespace pagemill::ops
