// How large a step may be where the options leave it open: it depends on the device.
#pragma once

#include "backend/backend.h"
#include "engine/engine.h"

namespace pagemill {

struct StepLimits {
  int32_t rows;   // --max-num-batched-tokens; at least --max-num-seqs where nobody asked for a number
  double max_ms;  // --max-step-ms
};

/// What was asked for, else: 2,048 rows and 200 ms; on a GPU 60 ms, and 8,192 rows where it has memory for them (40 GiB that we may use).
/// A step of 2,048 rows fills no GPU evenly, neither with the tiles of its products nor with those of attention: on an H200 long prompts
/// take 3 to 6 % less time in steps of 8,192 (docs/kernels-cuda.md). Such a step takes 0.2 s, which is why answers under way bring shorter ones.
StepLimits step_limits(const EngineOptions& options, const DeviceInfo& device);

}  // namespace pagemill
