// The matrix kernels for avx512_vnni. This file alone is compiled with its flags.
#include "backend/cpu/linear/table.h"
#include "backend/cpu/linear/tables.h"
#include "backend/cpu/vec/avx512.h"

namespace pagemill::linear_detail {

const LinearKernels& avx512_vnni_table() {
  static constexpr LinearKernels table = make_table<vec::Avx512Vnni>(Isa::avx512_vnni);
  return table;
}

}  // namespace pagemill::linear_detail
