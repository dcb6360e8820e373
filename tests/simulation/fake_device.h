// FakeDevice: a StepRunner whose "model" is a hash of the tokens that lie in the KV blocks it is told to read.
//
// Each slot of each group holds a number that stands for the whole prefix up to it, computed from the number in the slot
// before (found through the block table) and the row's token. The next token is a hash over the last visible slot of every
// block, the row's seed and its position. So a wrong, stale or swapped block anywhere in a table changes the answer, and
// Oracle computes from the tokens alone what a sequence says when it runs by itself.
//
// Time is virtual: steps run one after another, each for step_ns + row_ns per row; finish() moves the clock on to its end.
#pragma once

#include <cstdint>
#include <vector>

#include "base/clock.h"
#include "engine/runner.h"

namespace pagemill::simulation {

struct FakeModel {
  int32_t vocab = 1024;
  int32_t hidden = 3;
  std::vector<KvGroupConfig> groups;
};

struct FakeDeviceConfig {
  FakeModel model;
  int tickets = 1;
  TimeNs step_ns = 2'000'000;
  TimeNs row_ns = 20'000;
  std::vector<int32_t>* step_rows = nullptr;  // each step's rows are added; outlives the device
};

class FakeDevice final : public StepRunner {
 public:
  FakeDevice(FakeDeviceConfig config, ManualClock& clock);

  Result<Ticket> begin(const StepInputs& inputs, std::span<const KvCopy> copies, const StepExtras& extras) override;
  Result<StepResult> finish(Ticket ticket) override;
  int tickets_max() const override { return config_.tickets; }

  /// From now on every begin() or finish() fails.
  void break_down() { broken_ = true; }
  /// From now on every finish() fails.
  void break_finish() { finish_broken_ = true; }

 private:
  struct Flight {
    std::vector<SampledToken> tokens;
    std::vector<LogprobRow> logprobs, scores;
    struct Addend { std::span<double> sum; uint64_t context; };
    std::vector<Addend> pooled;
    TimeNs ends_ns = 0, duration_ns = 0;
  };

  uint64_t& slot(int32_t group, const StepInputs& inputs, int32_t seq, int32_t position);
  void store_row(const StepInputs& inputs, int32_t row);
  uint64_t context(const StepInputs& inputs, int32_t row);

  const FakeDeviceConfig config_;
  ManualClock& clock_;
  std::vector<std::vector<uint64_t>> slots_;   // [groups][blocks · kBlockTokens]
  uint64_t nowhere_ = 0;                       // what a missing block reads as
  std::vector<int32_t> last_tokens_;           // of the step begun last, per logit row
  Flight flights_[2];
  Ticket begun_ = 0, finished_ = 0;
  TimeNs free_at_ns_ = 0;
  bool broken_ = false, finish_broken_ = false;
};

/// What the model says for one sequence that has the device to itself, token by token.
class Oracle {
 public:
  explicit Oracle(const FakeModel& model) : model_(&model) {}

  void push(int32_t token);
  /// The hash over the context so far that the next token comes from.
  uint64_t context() const;
  /// Of a context: the token that a free choice gives.
  static int32_t token(uint64_t context, uint64_t seed, uint64_t position, int32_t vocab);
  /// Of a context: the log-probability that the model claims for a token.
  static float logprob(uint64_t context, int32_t token);
  /// Of a context: value `i` of the row's hidden state, -0.5 … 0.5.
  static double hidden(uint64_t context, size_t i);
  /// What a pooled prompt gives: the rows' hidden states summed up, L2-normalised, [hidden].
  static std::vector<float> embedding(const FakeModel& model, std::span<const int32_t> prompt);

 private:
  const FakeModel* model_;
  std::vector<uint64_t> block_ends_;           // prefix numbers at the last position of each block
  uint64_t prefix_ = 0;                        // number of the last position
  uint64_t full_sum_ = 0;                      // over complete blocks
  int32_t position_ = 0;                       // tokens pushed
};

}  // namespace pagemill::simulation
