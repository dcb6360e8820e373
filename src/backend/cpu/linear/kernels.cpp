#include "backend/cpu/linear/kernels.h"

#include "backend/cpu/linear/tables.h"
#include "base/check.h"

namespace pagemill {

const LinearKernels& linear_kernels(Isa isa, bool deterministic) {
  PM_CHECK(isa_available(isa), "this CPU does not have {}", to_string(isa));
  switch (isa) {
    case Isa::plain: return plain_linear_kernels(8, false);
    case Isa::avx2: return linear_detail::avx2_table();
    case Isa::avx_vnni: return linear_detail::avx_vnni_table();
    case Isa::avx512: return linear_detail::avx512_table();
    case Isa::avx512_vnni: return linear_detail::avx512_vnni_table();
    case Isa::amx: return linear_detail::amx_table(deterministic);
  }
  PM_CHECK(false, "not an ISA");
  return plain_linear_kernels(8, false);
}

}  // namespace pagemill
