#include "backend/cpu/ops/tables.h"
#include "backend/cpu/ops/tile_attention.h"
#include "backend/cpu/vec/plain_bf16.h"
#include "backend/cpu/vec/plain_tiles.h"

namespace pagemill::ops {

const OpKernels kPlain = make_op_kernels<FloatsPlain>(Isa::plain);
const OpKernels kPlainBf16 = make_op_kernels<WithBf16<FloatsPlain, vec::PlainBf16>>(Isa::plain, attend_span_by_tiles<FloatsPlain, vec::PlainTiles>);

}  // namespace pagemill::ops
