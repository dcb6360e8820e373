// The matrix kernels for avx_vnni. This file alone is compiled with its flags.
#include "backend/cpu/linear/table.h"
#include "backend/cpu/linear/tables.h"
#include "backend/cpu/vec/avx2.h"

namespace pagemill::linear_detail {

const LinearKernels& avx_vnni_table() {
  static constexpr LinearKernels table = make_table<vec::AvxVnni>(Isa::avx_vnni);
  return table;
}

}  // namespace pagemill::linear_detail
