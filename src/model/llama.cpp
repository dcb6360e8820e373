// Llama 2, 3, 3.1 and 3.2, and what shares their shape (SmolLM2, Mistral 7B, TinyLlama).
#include "model/family.h"

namespace pagemill {

// Llama 3.1's own frequencies arrive as the tensor rope_freqs.weight.
const Family kLlama{.architecture = "llama", .interleaved_qk = true, .qkv_bias = false};

}  // namespace pagemill
