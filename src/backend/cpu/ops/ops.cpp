#include "backend/cpu/ops/ops.h"

#include "backend/cpu/ops/tables.h"

namespace pagemill {

const OpKernels& op_kernels(Isa isa) {
  switch (isa) {
    case Isa::plain: return ops::kPlain;
    case Isa::avx2:
    case Isa::avx_vnni: return ops::kAvx2;
    case Isa::avx512: return ops::kAvx512;
    case Isa::avx512_vnni: return ops::kAvx512Vnni;
    case Isa::amx: return ops::kAmx;
  }
  return ops::kPlain;
}

const OpKernels& plain_bf16_op_kernels() { return ops::kPlainBf16; }

}  // namespace pagemill
