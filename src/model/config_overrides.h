// --hf-overrides: keys of HF's config.json laid over what the file says.
#pragma once

#include "model/config.h"

namespace pagemill {

/// Known keys: rope_scaling or rope_parameters (an object, or null for none), rope_theta, max_position_embeddings. Replaces the
/// file's scaling as a whole, rope_freqs.weight included. context_max must be the file's own, before scaling, and
/// stays so unless max_position_embeddings says otherwise. Errors name the key.
Result<void> apply_overrides(const json::object& overrides, ModelConfig& config);

}  // namespace pagemill
