// ScriptedEngine: an EngineHandle that says what it was told to say, for tests of everything above the engine: protocol,
// page, jobs, load generator. It keeps handle.h's promises (order, one End, cancel, bounds) with a thread of its own.
#pragma once

#include <functional>
#include <memory>

#include "engine/handle.h"

namespace pagemill {

struct ScriptedAnswer {
  std::vector<int32_t> tokens;           // of each choice
  FinishReason reason = FinishReason::stop;
  Error error;                           // with reason error
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
