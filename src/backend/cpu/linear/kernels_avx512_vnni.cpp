// The matrix kernels for avx512_vnni. This file alone is compiled with its flags.
#include "backend/cpu/linear/bf16_kernels.h"
#include "backend/cpu/linear/table.h"
#include "backend/cpu/linear/tables.h"
#include "backend/cpu/vec/avx512.h"
#include "backend/cpu/vec/avx512_bf16.h"

namespace pagemill::linear_detail {

const LinearKernels& avx512_vnni_table() {
  static const LinearKernels table = with_bf16_rows<vec::Avx512Vnni, vec::Avx512Bf16>(make_table<vec::Avx512Vnni>(Isa::avx512_vnni));
  return table;
}

}  // namespace pagemill::linear_detail
