// AMX loops. Compiled for the baseline and the tile instructions alone: what lies around these may be anything.
#include "backend/calibrate_loops.h"
#include "backend/cpu/vec/amx_tiles.h"

namespace pagemill::calibrate {
namespace {

using vec::AmxTiles;

struct Int8 {
  static constexpr double kOps = 2.0 * 16 * 16 * 64;
  template <int C, int A, int B>
  [[gnu::always_inline]] static inline void step() { AmxTiles::dot_su8<C, A, B>(); }
};
struct BFloat16 {
  static constexpr double kOps = 2.0 * 16 * 16 * 32;
  template <int C, int A, int B>
  [[gnu::always_inline]] static inline void step() { AmxTiles::dot_bf16<C, A, B>(); }
};

/// Two left operands times two right ones, whole tiles: from registers, or (FromMemory) each loaded from the first-level cache.
template <class P, bool FromMemory>
void run_tiles(uint64_t iterations) {
  const TileData data = tile_data<P>();
  vec::TileConfig config;
  for (int t = 0; t < vec::kTiles; ++t) config.set(t, vec::kTileRows, vec::kTileRowBytes);
  AmxTiles::configure(config);
  AmxTiles::zero<4>(), AmxTiles::zero<5>(), AmxTiles::zero<6>(), AmxTiles::zero<7>();
  AmxTiles::load<0>(data.x, 64), AmxTiles::load<1>(data.x + 1024, 64), AmxTiles::load<2>(data.w, 64), AmxTiles::load<3>(data.w + 1024, 64);
  int at = 0;
  for (; iterations != 0; --iterations) {
    if constexpr (FromMemory) {
      AmxTiles::load<2>(data.w + at, 64), AmxTiles::load<3>(data.w + at + 1024, 64);
      AmxTiles::load<0>(data.x + at, 64), AmxTiles::load<1>(data.x + at + 1024, 64);
      at = (at + 2048) % kTileBytes;
    }
    P::template step<4, 0, 2>(), P::template step<5, 0, 3>(), P::template step<6, 1, 2>(), P::template step<7, 1, 3>();
  }
  AmxTiles::release();
}

constexpr ComputeLoop kCompute[] = {
    {"amx tdpbsud, registers", Kind::int8, 4 * Int8::kOps, run_tiles<Int8, false>},
    {"amx tdpbsud, 2x2 tiles", Kind::int8, 4 * Int8::kOps, run_tiles<Int8, true>},
    {"amx tdpbf16ps, registers", Kind::float16, 4 * BFloat16::kOps, run_tiles<BFloat16, false>},
    {"amx tdpbf16ps, 2x2 tiles", Kind::float16, 4 * BFloat16::kOps, run_tiles<BFloat16, true>},
};

}  // namespace

constinit const LoopTable kAmxLoops{Need::amx, kCompute, std::size(kCompute), nullptr, 0};

}  // namespace pagemill::calibrate
