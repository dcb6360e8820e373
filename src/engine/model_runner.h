// ModelRunner: the StepRunner that computes: a model, its KV pool and the backend under them.
//
// begin() enqueues the whole step; on the CPU it has run when begin() returns, so one ticket is all there is to have.
// finish() reads what was sampled. After each step the device and the model's file are asked whether they are still whole:
// what a lost device or a truncated file computed is never handed out.
#pragma once

#include <memory>
#include <vector>

#include "backend/backend.h"
#include "base/clock.h"
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

  Result<Ticket> begin(const StepInputs& inputs, std::span<const KvCopy> copies, const StepExtras& extras) override;
  Result<StepResult> finish(Ticket ticket) override;
  int tickets_max() const override { return 1; }

  const Model& model() const { return *model_; }

 private:
  Result<void> sample(const StepInputs& step);
  Result<void> score(const StepInputs& step, const StepExtras& extras);
  Result<void> pool_rows();

  std::unique_ptr<Model> model_;
  std::unique_ptr<KvPool> kv_;
  Backend& backend_;
  const WeightSource& source_;
  const StepShape largest_;
  const Clock& clock_;
  SelfCommunicator communicator_;

  std::vector<Backend::BlockCopy> copies_;
  std::vector<SampledToken> tokens_;     // [logit_rows]
  std::vector<LogprobRow> logprobs_;     // [logit_rows]
  std::vector<LogprobRow> scores_;       // [score_rows]
  std::vector<float> hidden_;            // [rows, hidden] of one pooled sequence
  std::span<const StepExtras::Pool> pools_;  // of the step in flight, like row_begin_
  std::span<const int32_t> row_begin_;
  size_t sampled_rows_ = 0;
  bool wants_logprobs_ = false;
  TimeNs begun_ns_ = 0;
  Ticket last_ticket_ = 0;
};

}  // namespace pagemill
