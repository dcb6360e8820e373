// Scheduler: which rows of which sequences make up the next step.
//
// A step takes, until its rows or the KV blocks run out: one row of every sequence that is writing its answer, best
// first (priority, then arrival); then chunks of the prompts under way; then requests from the queue. Prompt rows are
// limited by max_num_batched_tokens and by the pacer (max_step_ms), so that running answers go on while a long
// prompt is read; one prompt takes at most three quarters of that while others have something to read.
//
// When blocks run out, the worst running sequence (goes_before() reversed) is preempted: it gives everything back and starts
// over later from its own tokens. A request of a strictly better priority takes seats and blocks from worse ones.
//
// Invariants:
//   1. The best running sequence gives way to a strictly better priority alone, else it gets to its end: no livelock.
//   2. Preempted sequences come back before new requests of the same priority start, and whenever there is room that a better
//      request waiting for more cannot use.
//   3. Seats in use (running sequences, and the choices they will fork into) ≤ max_num_seqs, and so are a step's logit rows.
//   4. Blocks promised to running prompts are not given to new ones: a prompt that starts can be read to its end, unless
//      answers grow into its blocks meanwhile.
// Everything but a request's start and end allocates nothing. Owned by the engine thread.
#pragma once

#include <cstdint>
#include <vector>

#include "engine/fair_queue.h"
#include "engine/pacer.h"
#include "engine/sequence.h"
#include "kv/block_manager.h"

namespace pagemill {

struct SchedulerConfig {
  int32_t max_num_seqs = 1;
  int32_t max_num_batched_tokens = 16;
  int32_t row_multiple = 1;              // Backend::row_multiple(): a prompt that is cut ends where a step's rows are a multiple of it
  TimeNs max_step_ns = 0;                // 0 = no limit
  std::vector<TimedStep> timed;          // what the pacer knows at the start: steps that were run to warm up
};

/// Rows of one sequence in a step.
struct PlanEntry {
  Sequence* sequence = nullptr;
  uint32_t epoch = 0;
  int32_t first = 0, count = 0;          // positions
  int32_t token_from = -1;               // the first row's token is this logit row's of the step before
  int32_t logit_begin = 0, logit_rows = 0;   // the last row's next token: one for each choice that starts from it
  int32_t score_begin = 0, score_rows = 0;   // prompt log-probabilities, from position `score_first`
  int32_t score_first = 0;
};

struct StepPlan {
  std::vector<PlanEntry> entries;        // decode rows first
  std::vector<KvCopy> copies;
  int32_t rows = 0, decode_rows = 0, logit_rows = 0, score_rows = 0;
  uint64_t number = 0;                   // of the step, from 1
};

class Scheduler {
 public:
  Scheduler(const SchedulerConfig& config, BlockManager& blocks);

  /// A new request's first sequence joins the queue.
  void add(Sequence& sequence);
  /// The request's other choices start where choices[0] stands: its prompt is computed and nothing is in flight.
  void fork(Request& request);
  /// Takes a sequence out, from every state, and gives back what it holds.
  void end(Sequence& sequence);

  /// Fills `plan` with the next step and counts its rows as scheduled; false if there is nothing to compute now (the
  /// steps in flight may change that).
  bool schedule(StepPlan& plan, TimeNs now_ns);
  /// The rows of an entry have been computed.
  void computed(const PlanEntry& entry);
  /// How long a step took, for the pacer.
  void observe(const StepPlan& plan, TimeNs duration_ns);

  bool has_work() const { return !running_.empty() || !preempted_.empty() || !queue_.empty(); }
  int32_t running() const { return static_cast<int32_t>(running_.size()); }
  int32_t queue_size() const { return queue_.size(); }
  int32_t preempted() const { return static_cast<int32_t>(preempted_.size()); }
  const std::vector<Sequence*>& running_sequences() const { return running_; }
  FairQueue& queue() { return queue_; }
  uint64_t preemptions() const { return preemptions_; }
  uint64_t prefix_queries_tokens() const { return prefix_queries_; }
  uint64_t prefix_hits_tokens() const { return prefix_hits_; }

 private:
  void schedule_decodes(StepPlan& plan);
  void schedule_prompts(StepPlan& plan);
  void admit(StepPlan& plan, TimeNs now_ns);
  void count_as_scheduled(StepPlan& plan);

  static bool answers(const Sequence& sequence);
  bool may_decode(const Sequence& sequence) const;
  bool reserve_decode(StepPlan& plan, Sequence& sequence);
  int32_t chunk_rows(const StepPlan& plan, const Sequence& sequence, double share) const;
  int32_t schedule_chunk(StepPlan& plan, Sequence& sequence, int32_t chunk);
  void add_entry(StepPlan& plan, Sequence& sequence, int32_t count);
  void drop_entry(StepPlan& plan, const Sequence& sequence);

  Sequence* next_waiting() const;
  bool start(StepPlan& plan, Sequence& sequence, TimeNs now_ns);
  bool way_could_be_made(const Sequence& sequence);
  bool make_way(StepPlan& plan, const Sequence& sequence);
  bool try_start(Sequence& sequence, TimeNs now_ns);
  int32_t blocks_to_finish_prompt(const Sequence& sequence, int32_t group) const;
  int32_t seats(const Sequence& sequence) const { return 1 + sequence.request->choices_to_fork(); }
  int32_t uncommitted(const Sequence& sequence) const { return sequence.scheduled - blocks_.committed(sequence.kv); }
  void preempt(StepPlan& plan, Sequence& sequence);
  void enter_running(Sequence& sequence);
  void leave_running(Sequence& sequence);

  const SchedulerConfig config_;
  BlockManager& blocks_;
  Pacer pacer_;
  FairQueue queue_;
  std::vector<Sequence*> running_;       // best first
  std::vector<Sequence*> preempted_;     // best first
  std::vector<int32_t> promised_;        // [groups] blocks that running prompts will still take
  std::vector<int32_t> available_before_;  // [groups] scratch of try_start()
  std::vector<int32_t> worse_holders_;   // [blocks of the largest group] scratch of way_could_be_made(), zero between calls
  struct Budget {                        // what is left of the step being scheduled
    int32_t rows = 0;
    double ns = 0;                       // for prompt rows
  } budget_;
  int32_t seats_used_ = 0;
  uint64_t steps_ = 0, preemptions_ = 0, prefix_queries_ = 0, prefix_hits_ = 0;
};

}  // namespace pagemill
