// The operations for AMX: avx512's, with attention by tiles as well.
#include "backend/cpu/ops/tables.h"
#include "backend/cpu/ops/tile_attention.h"
#include "backend/cpu/vec/amx_tiles.h"

namespace pagemill::ops {

const OpKernels kAmx = make_op_kernels<FloatsAvx512>(Isa::amx, attend_span_by_tiles<FloatsAvx512, vec::AmxTiles>);

}  // namespace pagemill::ops
