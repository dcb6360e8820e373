// The operations for AMX: avx512_vnni's, with attention by tiles as well.
#include "backend/cpu/ops/tables.h"
#include "backend/cpu/ops/tile_attention.h"
#include "backend/cpu/vec/amx_tiles.h"
#include "backend/cpu/vec/avx512_bf16.h"

namespace pagemill::ops {

const OpKernels kAmx = make_op_kernels<WithBf16<FloatsAvx512, vec::Avx512Bf16>>(Isa::amx, attend_span_by_tiles<FloatsAvx512, vec::AmxTiles>);

}  // namespace pagemill::ops
