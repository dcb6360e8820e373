// The matrix kernels in portable C++, in the four shapes that the wide instruction sets have.
#define PM_INLINE
#include "backend/cpu/linear/bf16_kernels.h"
#include "backend/cpu/linear/table.h"
#include "backend/cpu/vec/plain.h"
#include "backend/cpu/vec/plain_bf16.h"
#include "base/check.h"

namespace pagemill {

const LinearKernels& plain_linear_kernels(int lanes, bool vnni) {
  using namespace linear_detail;
  static const LinearKernels tables[2][2] = {
      {make_table<vec::Plain<8, false>>(Isa::plain), make_table<vec::Plain<8, true>>(Isa::plain)},
      {make_table<vec::Plain<16, false>>(Isa::plain), with_bf16_rows<vec::Plain<16, true>, vec::PlainBf16>(make_table<vec::Plain<16, true>>(Isa::plain))}};
  PM_CHECK(lanes == 8 || lanes == 16);
  return tables[lanes == 16][vnni];
}

}  // namespace pagemill
