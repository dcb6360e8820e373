#include "format/type_mix.h"

#include <algorithm>
#include <charconv>

#include "format/quantize.h"

namespace pagemill {
namespace {

constexpr DType kWithMedium[] = {DType::q3_k, DType::q4_k, DType::q5_k};

bool has_medium(DType dtype) { return std::find(std::begin(kWithMedium), std::end(kWithMedium), dtype) != std::end(kWithMedium); }

// "blk.12.attn_v.weight" → 12.
int32_t layer_of(std::string_view tensor) {
  constexpr std::string_view kPrefix = "blk.";
  int32_t layer = 0;
  if (tensor.starts_with(kPrefix)) std::from_chars(tensor.data() + kPrefix.size(), tensor.data() + tensor.size(), layer);
  return layer;
}

// The layers that lose most by few bits: the first and last eighth, and every third between.
bool wants_more_bits(int32_t layer, int32_t layers) {
  return layer < layers / 8 || layer >= 7 * layers / 8 || (layer - layers / 8) % 3 == 2;
}

DType attention_value_type(const TypeMix& mix, int32_t layer, int32_t layers) {
  if (mix.base == DType::q2_k) return DType::q3_k;
  if (!mix.medium) return mix.base;
  if (mix.base == DType::q3_k) return layer < 2 ? DType::q5_k : DType::q4_k;
  return wants_more_bits(layer, layers) ? DType::q6_k : mix.base;
}

DType ffn_down_type(const TypeMix& mix, int32_t layer, int32_t layers) {
  if (mix.base == DType::q2_k) return DType::q3_k;
  if (!mix.medium) return mix.base;
  if (mix.base == DType::q3_k) return layer < layers / 16 ? DType::q5_k : wants_more_bits(layer, layers) ? DType::q4_k : DType::q3_k;
  return wants_more_bits(layer, layers) ? DType::q6_k : mix.base;
}

DType attention_output_type(const TypeMix& mix) {
  if (mix.base == DType::q2_k) return DType::q3_k;
  return mix.medium && mix.base == DType::q3_k ? DType::q4_k : mix.base;
}

DType wanted_dtype(const TypeMix& mix, std::string_view tensor, int32_t layers, bool is_output) {
  if (!traits(mix.base).quantized) return mix.base;
  if (is_output) return mix.base == DType::q8_0 ? DType::q8_0 : DType::q6_k;
  if (tensor.ends_with("attn_v.weight")) return attention_value_type(mix, layer_of(tensor), layers);
  if (tensor.ends_with("ffn_down.weight")) return ffn_down_type(mix, layer_of(tensor), layers);
  if (tensor.ends_with("attn_output.weight")) return attention_output_type(mix);
  return mix.base;
}

}  // namespace

std::optional<TypeMix> type_mix_from_name(std::string_view name) {
  const bool medium = name.ends_with("_m") || name.ends_with("_M");
  const std::optional<DType> base = dtype_from_name(medium ? name.substr(0, name.size() - 2) : name);
  if (!base || (medium && !has_medium(*base))) return std::nullopt;
  return TypeMix{*base, medium};
}

std::string to_string(const TypeMix& mix) { return std::string(to_string(mix.base)) + (mix.medium ? "_m" : ""); }

std::string type_mix_names() {
  std::string names;
  for (int i = 0; i < kDTypeCount; ++i) {
    const auto dtype = static_cast<DType>(i);
    for (const bool medium : {false, true}) {
      if (medium && !has_medium(dtype)) continue;
      if (!names.empty()) names += ", ";
      names += to_string(TypeMix{dtype, medium});
    }
  }
  return names;
}

uint32_t gguf_file_type(const TypeMix& mix) {
  switch (mix.base) {
    case DType::f32: return 0;
    case DType::f16: return 1;
    case DType::q4_0: return 2;
    case DType::q4_1: return 3;
    case DType::q8_0: return 7;
    case DType::q5_0: return 8;
    case DType::q5_1: return 9;
    case DType::q2_k: return 10;
    case DType::q3_k: return mix.medium ? 12 : 11;
    case DType::q4_k: return mix.medium ? 15 : 14;
    case DType::q5_k: return mix.medium ? 17 : 16;
    case DType::q6_k: return 18;
    case DType::iq4_nl: return 25;
    case DType::bf16: return 32;
  }
  return 0;
}

DType tensor_dtype(const TypeMix& mix, std::string_view tensor, const std::vector<int64_t>& shape, int32_t layers, bool is_output) {
  if (shape.size() < 2) return DType::f32;
  return fitting_dtype(wanted_dtype(mix, tensor, layers, is_output), shape.back());
}

}  // namespace pagemill
