// Qwen 2 and 2.5.
#include "model/family.h"

namespace pagemill {

const Family kQwen2{.architecture = "qwen2", .interleaved_qk = false, .qkv_bias = true};

}  // namespace pagemill
