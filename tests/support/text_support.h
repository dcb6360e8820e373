// A text model of 300 tokens, made in memory, for tests above the engine: every byte, a few merges (some of which end inside a
// character), ChatML's control tokens and template. With it, a scripted engine can say any text.
#pragma once

#include <memory>
#include <string_view>
#include <vector>

#include "session/scripted_engine.h"
#include "text/text_model.h"

namespace pagemill {

/// ids 0 to 255 are the bytes. Made once; the same for every caller.
std::shared_ptr<const TextModel> test_text_model();

/// What an engine that serves test_text_model() says of itself.
EngineModelInfo test_model_info(int32_t context_max = 4096);

/// The ids of a text.
std::vector<int32_t> test_tokens(std::string_view text);

/// An answer with this text, ended by the model's end of turn.
ScriptedAnswer say(std::string_view text);

/// A script that says what the last user turn of the prompt said.
ScriptedAnswer repeat_user(const EngineRequest& request);

}  // namespace pagemill
