// Family: what tells one model family from the next, as data. Everything else is shared: the configuration's keys (config.cpp),
// the list of weights (manifest.cpp) and the decoder (model.cpp). A new family of this kind is one file and a line in config.cpp.
#pragma once

#include <string_view>

namespace pagemill {

struct Family {
  std::string_view architecture;  // general.architecture
  /// GGUF files hold the rows of attn_q and attn_k in interleaved rotary order; they are brought back to half-split order
  /// while loading, so that one rotary kernel serves all.
  bool interleaved_qk = false;
  /// attn_q, attn_k and attn_v have biases.
  bool qkv_bias = false;
};

extern const Family kLlama;   // llama.cpp
extern const Family kQwen2;   // qwen2.cpp

/// By general.architecture; null if there is none.
const Family* find_family(std::string_view architecture);

}  // namespace pagemill
