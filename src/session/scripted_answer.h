// What a scripted answer needs to look like an engine's: where it ends, and made-up numbers beside its tokens.
#pragma once

#include <cstdint>
#include <vector>

#include "session/scripted_engine.h"

namespace pagemill {

/// Cuts the answer where an engine would have ended it: before the first stop token, or at max_tokens or the context's end.
/// Returns the stop token, or -1.
int32_t cut_answer(ScriptedAnswer& answer, const EngineRequest& request, const EngineModelInfo& model);

/// Probability 0.9 and rank 1, and the ids after it as the `top` most likely.
TokenLogprob made_up_logprob(int32_t token, int32_t top, int32_t vocab);

/// Eight numbers of length 1 that depend on the prompt.
std::vector<float> made_up_embedding(const std::vector<int32_t>& prompt);

}  // namespace pagemill
