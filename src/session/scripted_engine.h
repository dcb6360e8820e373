// ScriptedEngine: an EngineHandle that says what it was told to say, for tests of everything above the engine: protocol,
// page, jobs, load generator. It keeps handle.h's promises (order, one End, cancel, deadlines, bounds) with one thread for all
// streams: thousands of them at more than a million tokens a second.
//
// Like an engine it ends a choice at a stop token (the model's, unless ignore_eos, or the request's) and at max_tokens or the
// context's end. Log-probabilities that a request asks for are made up: the token always has probability 0.9 and rank 1.
// An embedding is made up too: 8 numbers that depend on the prompt.
#pragma once

#include <functional>
#include <memory>

#include "engine/handle.h"

namespace pagemill {

struct ScriptedAnswer {
  std::vector<int32_t> tokens;           // of each choice
  FinishReason reason = FinishReason::stop;
  Error error;                           // with reason error; then and with cancelled or deadline, the whole request ends so
  TimeNs first_token_ns = 0;             // delay before the first token
  TimeNs per_token_ns = 0;               // delay between tokens; 0 = as fast as the reader takes them
};

struct ScriptedEngineConfig {
  EngineModelInfo model;
  /// Called on the engine's thread for each request; the default answer repeats the prompt.
  std::function<ScriptedAnswer(const EngineRequest&)> script;
  int32_t running_max = 256;             // others wait
  int32_t queued_max = 4096;             // more are refused with resource_exhausted
  TimeNs load_ns = 0;                    // stays `loading` so long
};

std::unique_ptr<EngineHandle> make_scripted_engine(ScriptedEngineConfig config);

}  // namespace pagemill
