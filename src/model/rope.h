// Rotary frequencies of every supported scaling.
#pragma once

#include "backend/backend.h"
#include "model/config.h"

namespace pagemill {

/// Plain: θ^(-2i/d). linear: divided by the factor. yarn: Peng et al. 2023, "YaRN", eq. 20–23 with HF's rounding of the band.
/// llama3: as in Llama 3.1's reference code. Then divided by freq_divisors, where the file has them.
RopeTable make_rope_table(const RopeConfig& config);

}  // namespace pagemill
