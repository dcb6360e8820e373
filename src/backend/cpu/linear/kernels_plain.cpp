// The matrix kernels in portable C++, in the four shapes that the wide instruction sets have.
#define PM_INLINE
#include "backend/cpu/linear/table.h"
#include "backend/cpu/vec/plain.h"
#include "base/check.h"

namespace pagemill {

const LinearKernels& plain_linear_kernels(int lanes, bool vnni) {
  using linear_detail::make_table;
  static constexpr LinearKernels tables[2][2] = {
      {make_table<vec::Plain<8, false>>(Isa::plain), make_table<vec::Plain<8, true>>(Isa::plain)},
      {make_table<vec::Plain<16, false>>(Isa::plain), make_table<vec::Plain<16, true>>(Isa::plain)}};
  PM_CHECK(lanes == 8 || lanes == 16);
  return tables[lanes == 16][vnni];
}

}  // namespace pagemill
