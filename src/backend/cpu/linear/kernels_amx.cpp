// The matrix kernels for AMX: those of avx512_vnni, with panels and bf16 weights multiplied by tiles. This file alone is compiled with
// its flags.
#include "backend/cpu/linear/tables.h"
#include "backend/cpu/linear/tile_kernels.h"
#include "backend/cpu/vec/amx_tiles.h"
#include "backend/cpu/vec/avx512.h"

namespace pagemill::linear_detail {

const LinearKernels& amx_table(bool deterministic) {
  static const LinearKernels table = with_tiles<vec::Avx512Vnni, vec::AmxTiles>(avx512_vnni_table(), Isa::amx), invariant = without_bf16_panels(table);
  return deterministic ? invariant : table;
}

}  // namespace pagemill::linear_detail
