// WarmUpStep: the inputs of a step that is run for its shape alone, before the first request (Backend::warm_up_steps).
#pragma once

#include <cstdint>

#include "backend/step_arrays.h"

namespace pagemill {

/// Copies nothing of the engine's; inputs() stays valid as long as the object.
class WarmUpStep {
 public:
  /// `blocks`: of the KV pool. A prompt is cut to what they hold, and writes keys and values there: nobody has any yet. Decode steps write none.
  WarmUpStep(const StepShape& wanted, int32_t blocks);
  WarmUpStep(const WarmUpStep&) = delete;
  WarmUpStep& operator=(const WarmUpStep&) = delete;

  const StepInputs& inputs() const { return inputs_; }

 private:
  StepArrays arrays_;
  StepInputs inputs_;
};

}  // namespace pagemill
