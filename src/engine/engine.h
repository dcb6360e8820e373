// make_engine: from a model's file and a device to a running engine. The front door of engine/ beside handle.h.
//
// Loading runs on a thread of its own and reports through EngineHandle::stats(); until it is done, submit() answers
// `unavailable`. A load that fails leaves an engine in EngineState::failed with the error in EngineStats::failure.
// The handle owns everything: destroying it ends every request (each gets its End event) and joins the threads.
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "backend/backend.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/limits.h"
#include "engine/handle.h"
#include "engine/memory.h"

namespace pagemill {

/// Names and defaults are those of the flags with dashes (max_model_len is --max-model-len).
struct EngineOptions {
  std::filesystem::path model;                 // a GGUF file
  std::string served_model_name;               // empty = the file's name without its extension
  json::object overrides;                      // --hf-overrides, as in read_model_config
  std::vector<int32_t> stop_tokens;            // end an answer: TextModel::stop_tokens(); each in the model's vocabulary

  int32_t max_model_len = 0;                   // tokens of prompt and answer; 0 = auto: the longest that fits
  int32_t max_num_seqs = 128;                  // sequences computed at the same time
  // None = what the device takes well (step_limits.h):
  std::optional<int32_t> max_num_batched_tokens;  // rows of one step
  std::optional<double> max_step_ms;           // prompts are cut so that a step beside answers takes no longer, alone 5 to 25 times as long; 0 = no limit
  std::optional<DType> kv_dtype;               // none = the backend's own choice
  uint64_t kv_cache_memory_bytes = 0;          // 0 = auto
  bool prefix_caching = true;

  int32_t max_queued_requests = limits::kQueuedRequests;
  int64_t max_queued_tokens = limits::kQueuedPromptTokens;  // of prompts
  double stall_s = 60;                         // no step for so long, with work to do, is EngineState::stalled
  uint64_t seed = 0;                           // of requests that bring none
};

/// Returns at once; see the head of this file. `budget` is the device's memory, shared by every engine on it (null =
/// one of this engine's own); it and `clock` must outlive the handle.
std::unique_ptr<EngineHandle> make_engine(EngineOptions options, std::unique_ptr<Backend> backend,
                                          std::shared_ptr<MemoryBudget> budget = nullptr,
                                          const Clock& clock = SteadyClock::instance());

/// Waits until the engine has loaded; `progress` is called every 50 ms with the phase and the share done (0 … 1).
/// Fails with the load's error.
Result<void> wait_until_loaded(const EngineHandle& engine,
                               const std::function<void(const EngineStats&)>& progress = nullptr);

}  // namespace pagemill
