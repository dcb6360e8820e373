// The kernels over tiles in portable C++: what kernels_amx.cpp computes, with the plain vector and tile types.
#define PM_INLINE
#include <cmath>

#include "backend/cpu/linear/tile_kernels.h"
#include "backend/cpu/vec/plain.h"
#include "backend/cpu/vec/plain_tiles.h"

namespace pagemill {

const LinearKernels& plain_tile_linear_kernels(bool deterministic) {
  using namespace linear_detail;
  static const LinearKernels table = with_tiles<vec::Plain<16, true>, vec::PlainTiles>(plain_linear_kernels(16, true), Isa::plain),
                             invariant = without_bf16_panels(table);
  return deterministic ? invariant : table;
}

}  // namespace pagemill
