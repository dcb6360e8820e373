// Fills the table of kernels.h for a vector type.
#pragma once

#include "backend/cpu/linear/float_tiles.h"
#include "backend/cpu/linear/kernels.h"
#include "backend/cpu/linear/pack.h"
#include "backend/cpu/linear/rows.h"
#include "backend/cpu/linear/tiles.h"

namespace pagemill::linear_detail {

template <class V, class Fmt>
constexpr void add_quantized(LinearKernels& table) {
  static_assert(panel_block_bytes<V, PanelKindOf<V, Fmt>>() * kPanelBlocks <= kPanelGroupBytes);
  using L = Layout<V, Fmt>;
  table.quantized[static_cast<int>(Fmt::dtype)] = {&L::group_bytes,    &L::header_bytes,  &pack<V, Fmt>,  &dequantize<V, Fmt>,
                                                   &direct<V, Fmt, 1>, &direct<V, Fmt, 2>, &unpack<V, Fmt>,
                                                   &panel<V, PanelKindOf<V, Fmt>>};
}

template <class V, DType Type>
constexpr void add_float(LinearKernels& table) {
  FloatKernels& to = table.floats[static_cast<int>(Type)];
  to = {&float_group_bytes<V, Type>, &float_pack<V, Type>, &float_dequantize<V, Type>, &float_multiply<V, Type>};
  to.one_stream = &float_streams<V, Type, 1>;
  to.two_streams = &float_streams<V, Type, 2>;
  if constexpr (V::kFloatColumns >= 4) to.four_streams = &float_streams<V, Type, 4>;
  to.cells = V::kFloatColumns;
}

template <class V>
constexpr LinearKernels make_table(Isa isa) {
  LinearKernels table;
  table.isa = isa;
  table.compiled_for = V::kCompiledFor;
  table.lanes = V::kLanes;
  table.vnni = V::kVnni;
  table.pairs_of_tiles = V::kPairColumns == QuantizedRows::kTile;
  add_quantized<V, Q4_0>(table);
  add_quantized<V, Q4_1>(table);
  add_quantized<V, Q5_0>(table);
  add_quantized<V, Q5_1>(table);
  add_quantized<V, Q8_0>(table);
  add_quantized<V, Q2_K>(table);
  add_quantized<V, Q3_K>(table);
  add_quantized<V, Q4_K>(table);
  add_quantized<V, Q5_K>(table);
  add_quantized<V, Q6_K>(table);
  add_quantized<V, Iq4Nl>(table);
  add_float<V, DType::f32>(table);
  add_float<V, DType::f16>(table);
  add_float<V, DType::bf16>(table);
  table.quantize = &quantize<V>;
  table.silu_mul = &silu_mul<V>;
  return table;
}

}  // namespace pagemill::linear_detail
