// ModelRunner: the StepRunner that computes: a model, its KV pool and the backend under them.
//
// Invariants:
//   1. Tickets are given in order and finished in order; at most tickets_max() are open.
//   2. A step's results are those of its own inputs, and stay valid until the next finish().
//   3. What a lost device or a truncated file computed is never handed out.
//
// begin() enqueues the whole step and ends it; on the CPU it has run when begin() returns, so one ticket is all there is to have.
// finish() waits and reads what was sampled. Steps that score a prompt or pool its hidden states wait in begin() already: the
// next step would overwrite what they read. After each step the device and the model's file are asked whether they are still whole.
#pragma once

#include <memory>
#include <vector>

#include "backend/backend.h"
#include "base/clock.h"
#include "engine/pacer.h"
#include "engine/runner.h"
#include "format/weight_source.h"
#include "model/model.h"
#include "parallel/communicator.h"

namespace pagemill {

class ModelRunner final : public StepRunner {
 public:
  /// Everything given by reference outlives it. `largest` is the step that the model was loaded for.
  ModelRunner(std::unique_ptr<Model> model, std::unique_ptr<KvPool> kv, Backend& backend, const WeightSource& source,
              const StepShape& largest, const Clock& clock);
  ~ModelRunner() override;

  Result<Ticket> begin(const StepInputs& inputs, std::span<const KvCopy> copies, const StepExtras& extras) override;
  Result<StepResult> finish(Ticket ticket) override;
  int tickets_max() const override { return static_cast<int>(flights_.size()); }

  /// Runs the steps that the backend wants to have run once, and some prompts once more: how long those took. Before the first begin().
  Result<std::vector<TimedStep>> warm_up();

  const Model& model() const { return *model_; }

 private:
  /// A step that was begun and not finished.
  struct Flight {
    std::vector<SampledToken> tokens;         // [logit_rows]
    std::vector<LogprobRow> logprobs;         // [logit_rows]
    std::vector<LogprobRow> scores;           // [score_rows]
    std::vector<float> hidden;                // the pooled sequences' rows, one behind the other: [pooled rows, hidden]
    std::span<const StepExtras::Pool> pools;
    std::span<const int32_t> row_begin;
    size_t sampled_rows = 0;
    bool wants_logprobs = false;
    TimeNs begun_ns = 0;
  };
  Flight& flight_of(Ticket ticket) { return flights_[ticket % flights_.size()]; }
  void sample(const StepInputs& step);
  Result<void> score(const StepInputs& step, const StepExtras& extras, Flight& flight);
  Result<void> read_pooled(Flight& flight);
  static void add_pooled(Flight& flight, int64_t hidden);

  std::unique_ptr<Model> model_;
  std::unique_ptr<KvPool> kv_;
  Backend& backend_;
  const WeightSource& source_;
  const StepShape largest_;
  const Clock& clock_;
  SelfCommunicator communicator_;

  std::vector<Backend::BlockCopy> copies_;
  std::vector<Flight> flights_;               // as many as may be in flight
  Ticket begun_ = 0, finished_ = 0;           // the last of each
  TimeNs finished_ns_ = 0;
};

}  // namespace pagemill
