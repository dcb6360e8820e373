#include "engine/scheduler.h"

#include <algorithm>

#include "base/check.h"

namespace pagemill {

namespace {

constexpr uint64_t kLookAgainSteps = 16;

bool before(const Sequence* a, const Sequence* b) { return goes_before(*a, *b); }

void insert_sorted(std::vector<Sequence*>& list, Sequence& sequence) {
  list.insert(std::upper_bound(list.begin(), list.end(), &sequence, before), &sequence);
}

}  // namespace

Scheduler::Scheduler(const SchedulerConfig& config, BlockManager& blocks)
    : config_(config), blocks_(blocks), pacer_(config.max_step_ns), promised_(static_cast<size_t>(blocks.groups())),
      available_before_(static_cast<size_t>(blocks.groups())) {
  PM_CHECK(config.max_num_seqs > 0 && config.max_num_seqs <= config.max_num_batched_tokens, "{} sequences do not fit {} rows",
           config.max_num_seqs, config.max_num_batched_tokens);
  for (const TimedStep& step : config.timed) pacer_.observe(step.prompt_rows, step.positions, step.duration_ns);
  running_.reserve(static_cast<size_t>(config.max_num_seqs));
  int32_t blocks_most = 0;
  for (int32_t group = 0; group < blocks.groups(); ++group) blocks_most = std::max(blocks_most, blocks.counts(group).total);
  worse_holders_.resize(static_cast<size_t>(blocks_most));
}

void Scheduler::add(Sequence& sequence) {
  sequence.state = SequenceState::waiting;
  queue_.push(sequence);
}

void Scheduler::fork(Request& request) {
  Sequence& first = *request.choices[0];
  seats_used_ -= request.choices_to_fork();  // each choice takes its own from here on
  request.forked = true;
  for (size_t i = 1; i < request.choices.size(); ++i) {
    Sequence& choice = *request.choices[i];
    choice.tokens = first.tokens;
    choice.tokens.reserve(first.tokens.capacity());
    choice.unsent_from = first.unsent_from;
    choice.scheduled = first.scheduled;
    choice.kv = blocks_.fork(first.kv);
    enter_running(choice);
  }
}

void Scheduler::end(Sequence& sequence) {
  switch (sequence.state) {
    case SequenceState::waiting:
      // Choices that were never forked wait in no queue.
      if (sequence.choice == 0) queue_.remove(sequence);
      break;
    case SequenceState::running:
      leave_running(sequence);
      break;
    case SequenceState::preempted:
      std::erase(preempted_, &sequence);
      break;
    case SequenceState::ended:
      return;
  }
  sequence.state = SequenceState::ended;
  ++sequence.epoch;
}

void Scheduler::enter_running(Sequence& sequence) {
  sequence.state = SequenceState::running;
  insert_sorted(running_, sequence);
  seats_used_ += seats(sequence);
}

void Scheduler::leave_running(Sequence& sequence) {
  blocks_.close(sequence.kv);
  sequence.kv = 0;
  sequence.scheduled = 0;
  sequence.pending = 0;
  std::erase(running_, &sequence);
  seats_used_ -= seats(sequence);
}

void Scheduler::preempt(StepPlan& plan, Sequence& sequence) {
  drop_entry(plan, sequence);
  leave_running(sequence);
  sequence.state = SequenceState::preempted;
  ++sequence.epoch;
  sequence.wanted_blocks = 0;
  insert_sorted(preempted_, sequence);
  ++preemptions_;
  ++sequence.request->usage.preemptions;
}

bool Scheduler::schedule(StepPlan& plan, TimeNs now_ns) {
  plan.entries.clear();
  plan.copies.clear();
  plan.rows = plan.decode_rows = plan.logit_rows = plan.score_rows = 0;
  budget_ = {.rows = config_.max_num_batched_tokens};
  schedule_decodes(plan);
  budget_.ns = pacer_.prompt_ns(std::any_of(running_.begin(), running_.end(), [](const Sequence* each) { return answers(*each); }));
  schedule_prompts(plan);
  admit(plan, now_ns);
  if (plan.entries.empty()) return false;
  plan.number = ++steps_;
  count_as_scheduled(plan);
  return true;
}

/// Its prompt is done or its last part under way: a reader waits for the next token, which may have no row in this step.
bool Scheduler::answers(const Sequence& sequence) { return sequence.remaining() <= 1 && sequence.request->wants_answer(); }

/// One row left to compute, its token known or about to come from the step in flight.
bool Scheduler::may_decode(const Sequence& sequence) const {
  if (sequence.remaining() != 1) return false;
  if (sequence.pending == 0) return true;
  // Ahead of its own last token: only if that token cannot matter to the choice of the next, and will not be the last.
  return sequence.request->choices_to_fork() == 0 && !sequence.needs_last_token() &&
         sequence.sampling->output_tokens() + sequence.pending < sequence.sampling->output_max();
}

void Scheduler::schedule_decodes(StepPlan& plan) {
  for (size_t i = 0; i < running_.size(); ++i) {
    Sequence& sequence = *running_[i];
    if (may_decode(sequence) && reserve_decode(plan, sequence)) add_entry(plan, sequence, 1);
  }
  plan.decode_rows = plan.rows;
}

/// Room for one more row, taken from worse sequences where need be; false if this one was itself the worst.
bool Scheduler::reserve_decode(StepPlan& plan, Sequence& sequence) {
  while (!blocks_.try_reserve(sequence.kv, uncommitted(sequence) + 1, plan.copies)) {
    Sequence& worst = *running_.back();
    preempt(plan, worst);
    if (&worst == &sequence) return false;
  }
  return true;
}

void Scheduler::schedule_prompts(StepPlan& plan) {
  const auto prompts = std::count_if(running_.begin(), running_.end(), [](const Sequence* each) { return each->remaining() > 1; });
  const bool others = prompts > 1 || !queue_.empty() || !preempted_.empty();
  for (size_t i = 0; i < running_.size(); ++i) {
    Sequence& sequence = *running_[i];
    if (sequence.remaining() <= 1) continue;
    const int32_t rows = chunk_rows(plan, sequence, others ? 0.75 : 1);
    if (rows == 0) continue;
    while (schedule_chunk(plan, sequence, rows) == 0 && running_.back() != &sequence) preempt(plan, *running_.back());
  }
}

/// Rows of a prompt that fit a share of what is left of the step; 0 where it is full.
int32_t Scheduler::chunk_rows(const StepPlan& plan, const Sequence& sequence, double share) const {
  int32_t rows = std::min(static_cast<int32_t>(share * budget_.rows), pacer_.rows_within(share * budget_.ns, sequence.scheduled));
  if (plan.rows == plan.decode_rows) rows = std::max(rows, Pacer::rows_min(plan.decode_rows));
  rows = std::min(rows, budget_.rows);
  const int32_t over = (plan.rows + rows) % config_.row_multiple;  // rows of the device's last tile, which costs as much as a full one
  return rows < sequence.remaining() && over < rows ? rows - over : rows;
}

/// Adds up to `chunk` rows, as many as there are blocks for; returns how many.
int32_t Scheduler::schedule_chunk(StepPlan& plan, Sequence& sequence, int32_t chunk) {
  const int32_t ahead = uncommitted(sequence);
  chunk = std::min(chunk, sequence.remaining());
  chunk = blocks_.reservable(sequence.kv, ahead + chunk) - ahead;
  if (chunk <= 0) return 0;
  const bool reserved = blocks_.try_reserve(sequence.kv, ahead + chunk, plan.copies);
  PM_CHECK(reserved, "reservable() promised {} rows", chunk);
  add_entry(plan, sequence, chunk);
  budget_.ns -= pacer_.rows_ns(chunk, sequence.scheduled);
  return chunk;
}

void Scheduler::add_entry(StepPlan& plan, Sequence& sequence, int32_t count) {
  plan.entries.push_back({.sequence = &sequence, .epoch = sequence.epoch, .first = sequence.scheduled, .count = count});
  plan.rows += count;
  budget_.rows -= count;
}

void Scheduler::drop_entry(StepPlan& plan, const Sequence& sequence) {
  const auto entry = std::find_if(plan.entries.begin(), plan.entries.end(),
                                  [&](const PlanEntry& each) { return each.sequence == &sequence; });
  if (entry == plan.entries.end()) return;
  plan.rows -= entry->count;
  budget_.rows += entry->count;
  if (entry - plan.entries.begin() < plan.decode_rows) {
    --plan.decode_rows;
  } else {
    budget_.ns += pacer_.rows_ns(entry->count, entry->first);
  }
  plan.entries.erase(entry);
}

Sequence* Scheduler::next_waiting() const {
  Sequence* fresh = queue_.front();
  if (preempted_.empty()) return fresh;
  Sequence* again = preempted_.front();
  return fresh && fresh->request->spec.priority < again->request->spec.priority ? fresh : again;
}

void Scheduler::admit(StepPlan& plan, TimeNs now_ns) {
  for (int32_t group = 0; group < blocks_.groups(); ++group) {
    int32_t& promised = promised_[static_cast<size_t>(group)] = 0;
    for (const Sequence* sequence : running_) promised += blocks_to_finish_prompt(*sequence, group);
  }
  // A request that cannot be helped in this step holds up those behind it in the queue, but not the preempted, which are all of a
  // worse priority: what they take up meanwhile it gets back from them as soon as that is enough, in a later step.
  bool queue_held_up = false;
  while (budget_.rows > 0) {
    Sequence* sequence = !queue_held_up ? next_waiting() : preempted_.empty() ? nullptr : preempted_.front();
    if (!sequence || chunk_rows(plan, *sequence, 1) == 0) return;
    if (!start(plan, *sequence, now_ns)) {
      if (sequence->state == SequenceState::preempted) return;
      queue_held_up = true;
      continue;
    }
    schedule_chunk(plan, *sequence, chunk_rows(plan, *sequence, 1));
    for (int32_t group = 0; group < blocks_.groups(); ++group) {
      promised_[static_cast<size_t>(group)] += blocks_to_finish_prompt(*sequence, group);
    }
  }
}

/// Starts it, in the place of sequences of a strictly worse priority where need be.
bool Scheduler::start(StepPlan& plan, Sequence& sequence, TimeNs now_ns) {
  while (!try_start(sequence, now_ns)) {
    if (!make_way(plan, sequence)) return false;
  }
  return true;
}

/// Seats and blocks of every sequence of a strictly worse priority together would do.
bool Scheduler::way_could_be_made(const Sequence& sequence) {
  const auto worse = [&](const Sequence* each) { return each->request->spec.priority > sequence.request->spec.priority; };
  int32_t seats_free = config_.max_num_seqs - seats_used_;
  for (const Sequence* each : running_) seats_free += worse(each) ? seats(*each) : 0;
  if (seats_free < seats(sequence)) return false;
  const int32_t group = sequence.wanted_group;
  const auto g = static_cast<size_t>(group);
  int32_t left = blocks_.blocks_available(group) - promised_[g];
  for (const Sequence* each : running_) {
    if (!worse(each)) {
      --left;  // for its next tokens, as in try_start()
      continue;
    }
    left += blocks_to_finish_prompt(*each, group);
    for (const int32_t block : blocks_.table(each->kv, group)) {
      // Given back once its last holder has gone.
      if (block >= 0 && ++worse_holders_[static_cast<size_t>(block)] == blocks_.holders(group, block)) ++left;
    }
  }
  for (const Sequence* each : running_) {
    if (!worse(each)) continue;
    for (const int32_t block : blocks_.table(each->kv, group)) {
      if (block >= 0) worse_holders_[static_cast<size_t>(block)] = 0;
    }
  }
  return sequence.wanted_blocks <= left || std::all_of(running_.begin(), running_.end(), worse);
}

/// Preempts one sequence of a strictly worse priority.
bool Scheduler::make_way(StepPlan& plan, const Sequence& sequence) {
  if (running_.empty()) return false;
  Sequence& worst = *running_.back();
  if (worst.request->spec.priority <= sequence.request->spec.priority || !way_could_be_made(sequence)) return false;
  for (int32_t group = 0; group < blocks_.groups(); ++group) {
    promised_[static_cast<size_t>(group)] -= blocks_to_finish_prompt(worst, group);
  }
  preempt(plan, worst);
  return true;
}

/// Blocks that the unscheduled rest of a running prompt takes; of a windowed group no more than it keeps at once.
int32_t Scheduler::blocks_to_finish_prompt(const Sequence& sequence, int32_t group) const {
  if (sequence.remaining() <= 1) return 0;
  const int32_t needed = blocks_.blocks_needed(sequence.kv, uncommitted(sequence) + sequence.remaining(), group);
  const int32_t window = blocks_.config().groups[static_cast<size_t>(group)].window;
  if (window == 0) return needed;
  return std::min(needed, (window + config_.max_num_batched_tokens) / limits::kBlockTokens + 2);
}

/// Opens the sequence's blocks and makes it run, if there are seats and blocks for its whole prompt.
bool Scheduler::try_start(Sequence& sequence, TimeNs now_ns) {
  const bool alone = running_.empty();
  if (!alone && seats_used_ + seats(sequence) > config_.max_num_seqs) return false;
  const auto left = [&](int32_t group) {
    // A block for each running sequence's next tokens, or answers would preempt what has just started.
    return blocks_.blocks_available(group) - promised_[static_cast<size_t>(group)] - running();
  };
  // What it lacked may have become cached meanwhile, in another's prompt: look again now and then.
  const bool look_again = steps_ >= sequence.wanted_step + kLookAgainSteps;
  if (!alone && sequence.wanted_blocks > left(sequence.wanted_group) && !look_again) return false;

  Request& request = *sequence.request;
  int32_t cached_max = INT32_MAX;
  if (request.spec.sampling.prompt_logprobs >= 0) cached_max = request.scored;  // the rest's logits are wanted
  if (request.spec.pooled_embedding) cached_max = 0;
  for (int32_t group = 0; group < blocks_.groups(); ++group) available_before_[static_cast<size_t>(group)] = blocks_.blocks_available(group);
  int32_t cached = 0;
  sequence.kv = blocks_.open(sequence.tokens, request.spec.cache_salt, &cached, cached_max);
  sequence.scheduled = cached;
  for (int32_t group = 0; group < blocks_.groups() && !alone; ++group) {
    const int32_t needed = std::max(1, blocks_to_finish_prompt(sequence, group));
    if (needed <= left(group)) continue;
    sequence.wanted_blocks = needed + available_before_[static_cast<size_t>(group)] - blocks_.blocks_available(group);
    sequence.wanted_group = group;
    sequence.wanted_step = steps_;
    blocks_.close(std::exchange(sequence.kv, 0));
    sequence.scheduled = 0;
    return false;
  }

  if (sequence.state == SequenceState::preempted) {
    std::erase(preempted_, &sequence);
  } else {
    queue_.remove(sequence);
    queue_.charge_prompt(request.spec.tenant, static_cast<int32_t>(sequence.tokens.size()) - cached);
    request.started = true;
    request.first_scheduled_ns = now_ns;
    request.usage.cached_tokens = cached;
    prefix_queries_ += sequence.tokens.size();
    prefix_hits_ += static_cast<uint64_t>(cached);
  }
  if (request.wants_answer()) {  // so that no token of the answer moves it
    sequence.tokens.reserve(static_cast<size_t>(request.prompt_tokens + request.output_max));
  }
  enter_running(sequence);
  return true;
}

void Scheduler::count_as_scheduled(StepPlan& plan) {
  for (PlanEntry& entry : plan.entries) {
    Sequence& sequence = *entry.sequence;
    Request& request = *sequence.request;
    if (entry.first >= static_cast<int32_t>(sequence.tokens.size())) entry.token_from = sequence.pending_row;
    sequence.scheduled += entry.count;
    const bool last_row = sequence.remaining() == 0;
    if (last_row && request.wants_answer()) {
      entry.logit_begin = plan.logit_rows;
      entry.logit_rows = 1 + request.choices_to_fork();
      plan.logit_rows += entry.logit_rows;
      ++sequence.pending;
      sequence.pending_row = entry.logit_begin;
    }
    if (request.spec.sampling.prompt_logprobs >= 0) {
      // The row at position p scores the token at p + 1; rows computed again after a preemption score nothing.
      entry.score_first = std::max(entry.first, request.scored);
      const int32_t end = std::min(entry.first + entry.count, request.prompt_tokens - 1);
      entry.score_rows = std::max(0, end - entry.score_first);
      entry.score_begin = plan.score_rows;
      plan.score_rows += entry.score_rows;
    }
    ++request.in_flight;
  }
}

void Scheduler::observe(const StepPlan& plan, TimeNs duration_ns) {
  double positions = 0;
  for (size_t i = static_cast<size_t>(plan.decode_rows); i < plan.entries.size(); ++i) {
    positions += Pacer::position_sum(plan.entries[i].count, plan.entries[i].first);
  }
  pacer_.observe(plan.rows - plan.decode_rows, positions, duration_ns);
}

void Scheduler::computed(const PlanEntry& entry) {
  Sequence& sequence = *entry.sequence;
  blocks_.commit(sequence.kv, std::span(sequence.tokens).subspan(static_cast<size_t>(entry.first), static_cast<size_t>(entry.count)));
}

}  // namespace pagemill
