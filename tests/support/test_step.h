// TestStep: the StepInputs of a few sequences, spelled out. For tests of ops and models; the engine has its own arena.
#pragma once

#include <cstdint>
#include <vector>

#include "backend/step_arrays.h"

namespace pagemill {

/// What one sequence contributes to a step.
struct TestSequence {
  std::vector<int32_t> tokens;     // one row each
  int32_t first_position = 0;      // of tokens[0]; what lies before is in the cache already
  std::vector<int32_t> blocks;     // its block table, as far as positions go
  bool all_logits = false;         // logits of every row instead of the last alone
};

/// Copies its arguments; inputs() stays valid as long as the object.
class TestStep {
 public:
  /// `padding_rows` rows are appended that no op may touch the cache for. With several KV groups all share the tables.
  explicit TestStep(const std::vector<TestSequence>& sequences, int32_t padding_rows = 0, int32_t groups = 1);
  TestStep(const TestStep&) = delete;
  TestStep& operator=(const TestStep&) = delete;

  const StepInputs& inputs() const { return inputs_; }

 private:
  StepArrays arrays_;
  StepInputs inputs_;
};

/// Blocks begin, begin + 1, … for `tokens` positions.
std::vector<int32_t> consecutive_blocks(int32_t begin, int32_t tokens);

}  // namespace pagemill
