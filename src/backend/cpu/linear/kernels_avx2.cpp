// The matrix kernels for avx2. This file alone is compiled with its flags.
#include "backend/cpu/linear/table.h"
#include "backend/cpu/linear/tables.h"
#include "backend/cpu/vec/avx2.h"

namespace pagemill::linear_detail {

const LinearKernels& avx2_table() {
  static constexpr LinearKernels table = make_table<vec::Avx2>(Isa::avx2);
  return table;
}

}  // namespace pagemill::linear_detail
