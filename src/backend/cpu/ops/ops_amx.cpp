// The operations for AMX: avx512's, with attention by tiles as well. Not avx512_vnni's: on CPUs with AMX vdpbf16ps takes four times as long as a
// multiply-add (docs/kernels.md), so that attention by vectors is faster in f32.
#include "backend/cpu/ops/tables.h"
#include "backend/cpu/ops/tile_attention.h"
#include "backend/cpu/vec/amx_tiles.h"

namespace pagemill::ops {

const OpKernels kAmx = make_op_kernels<FloatsAvx512>(Isa::amx, attend_span_by_tiles<FloatsAvx512, vec::AmxTiles>);

}  // namespace pagemill::ops
