// EngineCore: the step loop. step() is schedule → run → postprocess, on the caller's thread and the caller's clock; the
// engine thread calls it in the server, the simulation calls it in virtual time.
//
// Invariants:
//   1. Every accepted request gets exactly one End event: finished, cancelled, past its deadline, failed, or shut down.
//   2. A request lives until its End is delivered and no step in flight points to it.
//   3. Between two steps no ended sequence holds a block, a seat or a place in a queue.
//   4. A decode step of sequences that run already allocates nothing.
// Owned by the engine thread; only Admission is shared.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <unordered_map>
#include <vector>

#include "base/clock.h"
#include "engine/admission.h"
#include "engine/outbox.h"
#include "engine/runner.h"
#include "engine/scheduler.h"
#include "engine/step_arena.h"
#include "kv/block_manager.h"

namespace pagemill {

struct CoreConfig {
  SchedulerConfig scheduler;
  BlockManagerConfig blocks;
  int32_t hidden = 0;                    // of the model, for embeddings
  uint64_t seed = 0;                     // of requests that bring none
};

/// Only grow.
struct CoreCounters {
  uint64_t steps = 0, prompt_tokens = 0, output_tokens = 0;
  uint64_t finished_stop = 0, finished_length = 0, finished_cancelled = 0, finished_error = 0;
};

class EngineCore {
 public:
  EngineCore(CoreConfig config, Admission& admission, StepRunner& runner, const Clock& clock);
  ~EngineCore();

  /// Takes over a request that admission accepted under this id.
  void submit(RequestId id, EngineRequest request, TimeNs arrival_ns);
  /// Unknown and ended ids are ignored.
  void cancel(RequestId id);
  void end_choice(RequestId id, int32_t choice);
  /// Requests still there at this time are cancelled then.
  void drain(TimeNs deadline_ns) { drain_deadline_ns_ = deadline_ns; }
  /// Ends every request with this error; nothing is computed after.
  void fail_all(const Error& error);
  /// Ends every request and hands over every event, whether readers have room or not.
  void shut_down();

  /// One step: starts as many as may be in flight, finishes the oldest. False when there is nothing to compute.
  bool step();

  bool idle() const { return in_flight_ == 0 && !scheduler_.has_work(); }
  /// Events wait for a reader to make room.
  bool undelivered() const { return outbox_.waiting(); }
  bool failed() const { return failed_; }
  const Error& failure() const { return failure_; }

  const CoreCounters& counters() const { return counters_; }
  const Scheduler& scheduler() const { return scheduler_; }
  const BlockManager& blocks() const { return blocks_; }
  size_t requests() const { return requests_.size(); }

 private:
  friend struct CorePeer;  // tests plant faults through it

  struct Flight {                        // a step under way
    StepPlan plan;
    std::unique_ptr<StepArena> arena;
    Ticket ticket = 0;
  };

  void prepare_sampling(Request& request);
  void expire_deadlines();
  bool begin_step();
  void finish_step();
  static void abandon(const Flight& flight);
  void postprocess(const StepPlan& plan, const StepResult& result);
  void take_scores(const PlanEntry& entry, std::span<const LogprobRow> scores);
  void take_tokens(const PlanEntry& entry, const StepResult& result);
  void take_token(Sequence& sequence, const SampledToken& token, const LogprobRow* logprobs);
  void finish_prompt_only(Request& request);

  void end_choice(Sequence& sequence, FinishReason reason, int32_t stop_token);
  void end_request(Request& request, FinishReason reason, Error error = {});
  void leave_queue(Request& request);
  void collect(Request& request);
  void deliver();

  const CoreConfig config_;
  Admission& admission_;
  StepRunner& runner_;
  const Clock& clock_;
  BlockManager blocks_;
  Scheduler scheduler_;
  Outbox outbox_;
  std::unordered_map<RequestId, std::unique_ptr<Request>> requests_;
  std::vector<std::pair<TimeNs, RequestId>> deadlines_;  // a heap, earliest first; ended requests' are skipped
  std::array<Flight, 2> flights_;
  int in_flight_ = 0;
  size_t next_flight_ = 0;               // the one that begin_step() uses
  TimeNs last_finish_ns_ = 0;
  TimeNs drain_deadline_ns_ = 0;
  CoreCounters counters_;
  bool failed_ = false;
  Error failure_;
};

}  // namespace pagemill
