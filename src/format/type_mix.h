// TypeMix: what a quantised model's tensors are stored as. "Q4_K_M" is no element type but a recipe over several.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/dtype.h"

namespace pagemill {

struct TypeMix {
  DType base = DType::f16;
  bool medium = false;  // the "_M" recipes of Q3_K, Q4_K and Q5_K: more bits for attn_v and ffn_down of some layers
};

/// By name, upper or lower case: an element type ("q8_0"), or q3_k_m, q4_k_m, q5_k_m.
std::optional<TypeMix> type_mix_from_name(std::string_view name);
std::string to_string(const TypeMix& mix);
/// Every name that type_mix_from_name knows, for messages: "f32, f16, …".
std::string type_mix_names();
/// llama.cpp's number for it in general.file_type.
uint32_t gguf_file_type(const TypeMix& mix);

/// The type of one tensor, as llama.cpp's quantiser chooses: vectors stay f32; the matrix that makes the logits (`is_output`) gets
/// q6_k under recipes of fewer bits; types whose blocks do not divide a row fall back (fitting_dtype).
DType tensor_dtype(const TypeMix& mix, std::string_view tensor, const std::vector<int64_t>& shape, int32_t layers, bool is_output);

}  // namespace pagemill
