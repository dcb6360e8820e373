// Products of packed weights with int8 rows: one body for every type, ISA and number of rows.
//
// A cell is one group of rows of the weight times one row of x; its lanes are output values. Whatever tile a cell is computed in,
// its value is made by the same operations in the same order, block by block: that is what makes results independent of how many
// rows there are. Inside a block sums are exact integers.
#pragma once

#include "backend/cpu/linear/formats.h"
#include "backend/cpu/linear/kernels.h"

namespace pagemill::linear_detail {

/// What a block's sum is before the scale of its row of x: f32 where the scales of halves are.
template <class V, bool Floats>
struct SumType {
  using Type = typename V::I;
};
template <class V>
struct SumType<V, true> {
  using Type = typename V::F;
};
template <class V, class K>
using BlockSum = typename SumType<V, BlockScales<V, K>::kFloatHalves>::Type;

/// What vpdpbusd adds a block's (half's) products to: - zero · Σ x, above kWholeBits where V::kWholeSums.
template <class V, class K, int J>
PM_INLINE inline typename V::I first_sum(const QuantBlock& x) {
  constexpr bool in_row = K::zero == kPanelZero && (V::kWholeSums || !K::halves);
  // The second half's begins with the whole block's, so that second_half() subtracts a number that the row holds too.
  if constexpr (in_row) return V::broadcast(K::halves && J == 0 ? &x.first_half : &x.first_sum);
  const auto begin = V::set32(V::kWholeSums ? kWholeBits : 0);
  if constexpr (K::zero == 0) return begin;
  // half_sum is a pair of 16-bit numbers; a half takes its own.
  constexpr uint32_t minus = static_cast<uint16_t>(-K::zero), pair = !K::halves ? minus | minus << 16 : J == 0 ? minus : minus << 16;
  return V::add_dot16(begin, V::broadcast(x.half_sum), V::set32(static_cast<int>(pair)));
}

/// The sums of a block's halves as floats, the first times its scale.
template <class V, class K>
PM_INLINE inline typename V::F first_half(typename V::I part, const BlockScales<V, K>& scales) {
  if constexpr (BlockScales<V, K>::kWholeHalves) return V::scale_whole(part, scales.sh[0], scales.whole_sh);
  else return V::mul(V::to_float(part), scales.sh[0]);
}
template <class V, class K>
PM_INLINE inline typename V::F second_half(typename V::I part, const QuantBlock& x) {
  // first_half's bits are those of kWhole - zero · Σ x of the first half, which is what first_sum has more than a sum of the second one.
  if constexpr (!V::kWholeSums) return V::to_float(part);
  else return V::sub(V::as_float(part), K::zero == kPanelZero ? V::as_float(V::broadcast(&x.first_half)) : V::set_f(kWhole));
}

/// By vpdpbusd: part += or, on the first quad of a run, = first + the quad's products.
template <class V, class K, int J>
PM_INLINE inline void add_quad(typename V::I w, const QuantBlock& x, const BlockScales<V, K>& scales, typename V::I first, typename V::I& part,
                               BlockSum<V, K>& sum) {
  part = V::dot8(J % (K::halves ? 4 : 8) == 0 ? first : part, w, x.q + 4 * J);
  if constexpr (!K::halves && J == 7) sum = part;
  if constexpr (K::halves && J == 3) sum = first_half<V, K>(part, scales);
  if constexpr (K::halves && J == 7) sum = V::fma(second_half<V, K>(part, x), scales.sh[1], sum);
}

/// By products of pairs: part += or, on the first quad of a run, = the quad's products.
template <class V, class K, int J>
PM_INLINE inline void add_pairs(typename V::I w, typename V::I magnitude, typename V::I x, const BlockScales<V, K>& scales, typename V::I& part,
                                BlockSum<V, K>& sum) {
  auto pairs = K::is_signed ? V::mul_pairs(magnitude, V::sign8(x, w)) : V::mul_pairs(w, x);
  if constexpr (J % K::depth != 0) pairs = V::add16(part, pairs);
  part = pairs;
  if constexpr (J % K::depth == K::depth - 1) {
    const auto wide = V::dot16(pairs, K::halves ? scales.sc[J / 4] : V::set16(1));
    sum = J < K::depth ? wide : V::add32(sum, wide);
  }
}

/// sum[g][c] = Σ over the block of code · x, times the scales of its halves where the type has them, else above kWholeBits where V::kWholeSums.
/// q[g] points at the quads.
template <class V, class K, class Quads, int Groups, int Columns>
PM_INLINE inline void block_sums(const std::byte* const (&q)[Groups], const QuantBlock* x, const BlockScales<V, K> (&scales)[Groups],
                                 BlockSum<V, K> (&sum)[Groups * Columns]) {
  using I = typename V::I;
  I part[Groups * Columns];
  unroll<8>([&](auto quad) PM_INLINE {
    constexpr int j = quad;
    I w[Groups], magnitude[Groups];
    unroll<Groups>([&](auto g) PM_INLINE {
      w[g] = Quads::template quad<j>(q[g]);
      magnitude[g] = K::is_signed ? V::abs8(w[g]) : w[g];
    });
    unroll<Columns>([&](auto column) PM_INLINE {
      constexpr int c = column;
      if constexpr (V::kVnni) {
        I first{};
        if constexpr (j % (K::halves ? 4 : 8) == 0) first = first_sum<V, K, j>(x[c]);
        unroll<Groups>([&](auto g) PM_INLINE { add_quad<V, K, j>(w[g], x[c], scales[g], first, part[g * Columns + c], sum[g * Columns + c]); });
      } else {
        const I b = V::broadcast(x[c].q + 4 * j);
        unroll<Groups>([&](auto g) PM_INLINE {
          add_pairs<V, K, j>(w[g], magnitude[g], b, scales[g], part[g * Columns + c], sum[g * Columns + c]);
        });
      }
    });
  });
}

/// acc += the block's contribution of one cell, in the order that the header of this file promises.
template <class V, class K>
PM_INLINE inline void apply_scales(const BlockScales<V, K>& scales, const QuantBlock& x, BlockSum<V, K> sum, typename V::F& acc) {
  const auto x_scale = V::broadcast_f(&x.scale);
  if constexpr (K::has_fix) sum = V::add32(sum, V::dot16(V::broadcast(x.half_sum), scales.fix));
  if constexpr (BlockScales<V, K>::kFloatHalves) acc = V::fma(sum, x_scale, acc);
  else if constexpr (V::kWholeSums) acc = V::fma(scales.s, V::scale_whole(sum, x_scale, V::broadcast_f(&x.whole_scale)), acc);
  else acc = V::fma(scales.s, V::mul(V::to_float(sum), x_scale), acc);
  if constexpr (K::has_mins) {
    acc = V::fma(scales.m, V::mul(V::to_float(V::dot16(V::broadcast(x.half_sum), scales.mins)), x_scale), acc);
  } else if constexpr (K::has_m) {
    acc = V::fma(scales.m, V::broadcast_f(&x.scaled_sum), acc);
  }
}

/// One or two groups times a few rows of x, which are read once for both. Next: blocks of the next group are asked for, else those that follow.
template <class V, class Fmt, int Groups, int Columns, bool Next = false>
void direct_tile(const std::byte* const* groups, int64_t in, const DirectBlocks& blocks, const QuantBlock* x, int64_t x_stride, float* const* sums,
                 int64_t sums_stride) {
  using L = Layout<V, Fmt>;
  using K = KindOf<V, Fmt>;
  constexpr int kPerEntry = Fmt::super ? 8 : 1;
  // Groups follow one another, so what lies behind a group is wanted next, its header too: with each block a block and its share of a
  // header are asked for. Eight rows are bound by arithmetic, and that share costs them more than it brings.
  constexpr size_t kAsked = L::kBlockBytes + (Columns == 8 ? 0 : L::kEntryBytes / kPerEntry);
  typename V::F acc[Groups * Columns];
  if (blocks.begin > 0) {
    unroll<Groups * Columns>([&](auto cell) PM_INLINE { acc[cell] = V::load_f(sums[cell / Columns] + cell % Columns * sums_stride); });
  } else {
    unroll<Groups * Columns>([&](auto cell) PM_INLINE { acc[cell] = V::zero_f(); });
  }
  const auto block_of = [in](const std::byte* group, int64_t block) { return group + L::header_bytes(in) + static_cast<size_t>(block) * L::kBlockBytes; };
  const std::byte *q[Groups], *ahead[Groups], *next = nullptr, *next_header = nullptr;
  unroll<Groups>([&](auto g) PM_INLINE {
    q[g] = block_of(groups[g], blocks.begin);
    ahead[g] = q[g] + kStreamAhead / Groups;
  });
  if constexpr (Next) {
    next = block_of(blocks.next_group, blocks.next_begin);
    next_header = blocks.next_group + static_cast<size_t>(blocks.next_begin / kPerEntry) * L::kEntryBytes;
  }
  for (int64_t block = blocks.begin; block < blocks.begin + blocks.count; ++block) {
    BlockScales<V, K> scales[Groups];
    if constexpr (Next) {
      for (size_t line = 0; line < L::kBlockBytes; line += 64) V::prefetch_second(next + line);
      next += L::kBlockBytes;
      V::prefetch_second(next_header);
      next_header += L::kEntryBytes / kPerEntry;
    }
    unroll<Groups>([&](auto g) PM_INLINE {
      if constexpr (!Next) {
        for (size_t line = 0; line < kAsked; line += 64) V::prefetch_second(ahead[g] + line);
        for (size_t line = 0; line < L::kBlockBytes; line += 64) V::prefetch(q[g] + kStreamNear + line);
        ahead[g] += kAsked;
      }
      load_scales<V, Fmt>(groups[g], block, scales[g]);
    });
    BlockSum<V, K> sum[Groups * Columns];
    block_sums<V, K, PackedQuads<V, Fmt::bits>, Groups, Columns>(q, x, scales, sum);
    unroll<Columns>([&](auto column) PM_INLINE {
      constexpr int c = column;
      unroll<Groups>([&](auto g) PM_INLINE { apply_scales(scales[g], x[c], sum[g * Columns + c], acc[g * Columns + c]); });
    });
    unroll<Groups>([&](auto g) PM_INLINE { q[g] += L::kBlockBytes; });
    x += x_stride;
  }
  unroll<Groups * Columns>([&](auto cell) PM_INLINE { V::store_f(sums[cell / Columns] + cell % Columns * sums_stride, acc[cell]); });
}

template <class V, class Fmt, int Groups>
void direct(const std::byte* const* groups, int64_t in, const DirectBlocks& blocks, const QuantBlock* x, int64_t x_stride, int columns,
            float* const* sums, int64_t sums_stride) {
  float* to[Groups];
  for (int g = 0; g < Groups; ++g) to[g] = sums[g];
  constexpr bool kEight = Groups == 1 || V::kPairColumns == 8;
  while (columns > 0) {
    const int now = columns >= 8 && kEight ? 8 : columns >= 4 ? 4 : columns >= 2 ? 2 : 1;
    switch (now) {
      case 8:
        if constexpr (kEight && Groups == 2) {
          if (blocks.next_group != nullptr) {
            direct_tile<V, Fmt, Groups, 8, true>(groups, in, blocks, x, x_stride, to, sums_stride);
            break;
          }
        }
        if constexpr (kEight) direct_tile<V, Fmt, Groups, 8>(groups, in, blocks, x, x_stride, to, sums_stride);
        break;
      case 4: direct_tile<V, Fmt, Groups, 4>(groups, in, blocks, x, x_stride, to, sums_stride); break;
      case 2: direct_tile<V, Fmt, Groups, 2>(groups, in, blocks, x, x_stride, to, sums_stride); break;
      default: direct_tile<V, Fmt, Groups, 1>(groups, in, blocks, x, x_stride, to, sums_stride); break;
    }
    columns -= now;
    x += now;
    for (int g = 0; g < Groups; ++g) to[g] += now * sums_stride;
  }
}

/// A panel's block: eight quads, then the fields of BlockScales.
template <class V, class K>
constexpr size_t panel_block_bytes() {
  return static_cast<size_t>(4 * V::kLanes) * (8 + BlockScales<V, K>::kPanelVectors);
}

template <class V, class Fmt>
void unpack(const std::byte* group, int64_t in, int64_t begin, int64_t count, std::byte* panel) {
  using L = Layout<V, Fmt>;
  constexpr int kRaised = PanelKindOf<V, Fmt>::zero - KindOf<V, Fmt>::zero;
  const std::byte* q = group + L::header_bytes(in) + static_cast<size_t>(begin) * L::kBlockBytes;
  for (int64_t block = begin; block < begin + count; ++block) {
    BlockScales<V, KindOf<V, Fmt>> scales;
    load_scales<V, Fmt>(group, block, scales);
    unroll<8>([&](auto j) PM_INLINE {
      auto quad = PackedQuads<V, Fmt::bits>::template quad<j>(q);
      if constexpr (kRaised != 0) quad = V::add16(quad, V::set8(kRaised));  // bytes stay below 256
      V::store(panel + j * 4 * V::kLanes, quad);
    });
    scales.to_panel(panel + 8 * 4 * V::kLanes);
    q += L::kBlockBytes;
    panel += panel_block_bytes<V, PanelKindOf<V, Fmt>>();
  }
}

template <class V, class K, int Groups, int Columns>
void panel_tile(const std::byte* panel, size_t panel_bytes, int64_t blocks, bool add, const QuantBlock* x, int64_t x_stride, float* sums,
                int64_t sums_stride) {
  typename V::F acc[Groups * Columns];
  if (add) {
    unroll<Groups * Columns>([&](auto cell) PM_INLINE { acc[cell] = V::load_f(sums + cell % Columns * sums_stride + cell / Columns * V::kLanes); });
  } else {
    unroll<Groups * Columns>([&](auto cell) PM_INLINE { acc[cell] = V::zero_f(); });
  }
  for (; blocks > 0; --blocks) {
    BlockScales<V, K> scales[Groups];
    const std::byte* q[Groups];
    unroll<Groups>([&](auto g) PM_INLINE {
      q[g] = panel + g * panel_bytes;
      scales[g].from_panel(q[g] + 8 * 4 * V::kLanes);
    });
    BlockSum<V, K> sum[Groups * Columns];
    block_sums<V, K, PlainQuads<V>, Groups, Columns>(q, x, scales, sum);
    unroll<Columns>([&](auto column) PM_INLINE {
      constexpr int c = column;
      unroll<Groups>([&](auto g) PM_INLINE { apply_scales(scales[g], x[c], sum[g * Columns + c], acc[g * Columns + c]); });
    });
    panel += panel_block_bytes<V, K>();
    x += x_stride;
  }
  unroll<Groups * Columns>([&](auto cell) PM_INLINE {
    V::store_f(sums + cell % Columns * sums_stride + cell / Columns * V::kLanes, acc[cell]);
  });
}

template <class V, class K>
void panel(const std::byte* panel, size_t panel_bytes, int panels, int64_t blocks, bool add, const QuantBlock* x, int64_t x_stride, int columns,
           float* sums, int64_t sums_stride) {
  // Sums of halves take registers for themselves: with fewer rows all stay there.
  constexpr int kWide = K::halves ? 4 : V::kPanelColumns;
  for (int now; columns > 0; columns -= now, x += now, sums += now * sums_stride) {
    if (panels == 1) {
      now = 1;
      panel_tile<V, K, 1, 1>(panel, panel_bytes, blocks, add, x, x_stride, sums, sums_stride);
      continue;
    }
    now = columns >= kWide ? kWide : columns >= 4 ? 4 : columns >= 2 ? 2 : 1;
    const auto tile = now == kWide ? &panel_tile<V, K, 2, kWide> : now == 4 ? &panel_tile<V, K, 2, 4> : now == 2 ? &panel_tile<V, K, 2, 2> : &panel_tile<V, K, 2, 1>;
    tile(panel, panel_bytes, blocks, add, x, x_stride, sums, sums_stride);
  }
}

}  // namespace pagemill::linear_detail
