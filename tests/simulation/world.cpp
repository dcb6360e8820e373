#include "simulation/world.h"

#include <algorithm>
#include <bit>

#include <fmt/format.h>

#include "simulation/core_peer.h"

namespace pagemill::simulation {

namespace {

constexpr int32_t kBlock = limits::kBlockTokens;
constexpr TimeNs kHostStepNs = 10'000;
constexpr size_t kFaultAfter = 100;      // requests that end before a fault is planted

}  // namespace

Machine random_machine(SplitMix64& random) {
  const auto between = [&](int32_t low, int32_t high) { return low + static_cast<int32_t>(random.below(static_cast<uint64_t>(high - low) + 1)); };
  Machine machine;
  machine.scheduler.max_num_seqs = between(16, 64);
  machine.scheduler.max_num_batched_tokens = between(machine.scheduler.max_num_seqs, 512);
  machine.scheduler.max_step_ns = random.below(2) ? 0 : between(4, 12) * kNsPerMs;
  machine.device.tickets = between(1, 2);
  machine.device.step_ns = between(1, 4) * kNsPerMs;
  machine.device.row_ns = between(5, 60) * 1000;

  // Room for one longest sequence, and for less than the seats could use.
  const int32_t seats = machine.scheduler.max_num_seqs, rows = machine.scheduler.max_num_batched_tokens;
  const auto windowed = [&] {
    const int32_t window = between(2, 300), one = (window + rows) / kBlock + 2;
    return KvGroupConfig{.blocks = one + seats * (window / kBlock + 2) / between(1, 3), .window = window};
  };
  const KvGroupConfig full{.blocks = std::max(kContextMax / kBlock + 2, seats * between(1, 5))};
  switch (random.below(4)) {
    case 0: machine.device.model.groups = {full, windowed()}; break;
    case 1: machine.device.model.groups = {windowed(), full, windowed()}; break;
    default: machine.device.model.groups = {full}; break;
  }
  machine.tenants = between(1, 4);
  machine.priorities = random.below(4) == 0 ? 1 : between(2, 5);
  machine.outstanding = seats * between(2, 4);
  machine.queued_max = random.below(4) ? 4096 : between(2, 20);
  return machine;
}

World::World(uint64_t seed, int requests, Fault fault)
    : random_(seed), requests_(requests), fault_(fault), machine_(random_machine(random_)), device_(machine_.device, clock_),
      admission_({.model = {.name = "fake", .context_max = kContextMax, .vocab = machine_.device.model.vocab, .stop_tokens = {kStopToken}},
                  .max_num_seqs = machine_.scheduler.max_num_seqs, .queued_requests_max = machine_.queued_max}),
      core_({.scheduler = machine_.scheduler, .blocks = {.groups = machine_.device.model.groups, .hash_seed = seed}, .hidden = machine_.device.model.hidden, .seed = seed},
            admission_, device_, clock_) {
  for (auto count = 1 + random_.below(6); count > 0; --count) {
    const size_t capacity = size_t{2} << random_.below(9);
    readers_.push_back({std::make_shared<EventQueue>(nullptr, capacity), random_.below(3) ? 1 : 1 + static_cast<int>(random_.below(200))});
  }
  counts_.worlds = 1;
  counts_.overlapped_worlds = machine_.device.tickets > 1;
  counts_.windowed_worlds = machine_.device.model.groups.size() > 1;
}

WorldResult World::run() {
  while (violation_.empty() && (submitted_ < requests_ || !clients_.empty())) {
    ++iteration_;
    clock_.advance_ns(kHostStepNs);
    submit_new();
    cancel_due();
    const uint64_t steps = core_.counters().steps;
    const bool more = core_.step();
    plant();
    violate(check_step(core_.counters().steps > steps));
    read_events();
    if (!more) clock_.advance_ns(kNsPerMs);
  }
  if (violation_.empty()) violate(check_end());
  const CoreCounters& c = core_.counters();
  counts_.steps = c.steps;
  counts_.prompt_tokens = c.prompt_tokens;
  counts_.output_tokens = c.output_tokens;
  counts_.preemptions = core_.scheduler().preemptions();
  counts_.rejected = admission_.rejected();
  return {counts_, violation_};
}

/// Clients keep `outstanding` requests going; now and then they all come at once.
void World::submit_new() {
  if (submitted_ == requests_) return;
  const bool burst = random_.below(500) == 0;
  auto room = static_cast<int64_t>(machine_.outstanding) * (burst ? 2 : 1) - static_cast<int64_t>(clients_.size());
  for (; room > 0 && submitted_ < requests_ && (burst || random_.below(4) == 0); --room) submit_one();
}

void World::submit_one() {
  ClientPlan plan = random_request(random_, machine_.device.model, machine_.scheduler.max_num_seqs, machine_.tenants, machine_.priorities);
  EngineRequest request = plan.request;
  request.events = readers_[random_.below(readers_.size())].queue;
  if (random_.below(16) == 0) {
    request.deadline_ns = plan.request.deadline_ns = clock_.now_ns() + static_cast<TimeNs>(random_.below(4000)) * kNsPerMs;
  }
  const auto id = admission_.accept(request);
  if (!id) return;
  ++submitted_;
  if (plan.cancel_after_ns) cancels_.emplace(clock_.now_ns() + *plan.cancel_after_ns, *id);
  if (plan.cancel_at_token == 0) cancels_.emplace(clock_.now_ns(), *id);
  counts_.forked += plan.request.sampling.n > 1;
  counts_.constrained += plan.request.constraint != nullptr;
  counts_.scored += plan.request.sampling.prompt_logprobs >= 0;
  counts_.pooled += plan.request.pooled_embedding;
  const TimeNs now = clock_.now_ns();
  clients_.emplace(*id, std::make_unique<Client>(machine_.device.model, *id, std::move(plan), now));
  core_.submit(*id, std::move(request), now);
}

void World::cancel_due() {
  while (!cancels_.empty() && cancels_.top().first <= clock_.now_ns()) {
    const RequestId id = cancels_.top().second;
    cancels_.pop();
    if (const auto client = clients_.find(id); client != clients_.end()) client->second->cancelled();
    core_.cancel(id);
  }
}

void World::read_events() {
  counts_.delayed += core_.undelivered();
  for (const Reader& reader : readers_) {
    if (iteration_ % static_cast<uint64_t>(reader.every) != 0) continue;
    events_.clear();
    reader.queue->drain(events_);
    for (EngineEvent& event : events_) use_event(event);
  }
}

void World::use_event(EngineEvent& event) {
  const auto found = clients_.find(event.request);
  if (found == clients_.end()) return violate(fmt::format("request {}: an event after its end", event.request));
  Client& client = *found->second;
  violate(client.use(event, clock_.now_ns()));
  const auto at = client.plan().cancel_at_token;
  if (at && *at > 0 && client.tokens_seen() >= *at && !client.ended()) {
    client.cancelled();
    core_.cancel(event.request);
  }
  if (client.ended()) finish(client);
}

void World::finish(Client& client) {
  const EndEvent& end = client.end();
  ++counts_.requests;
  counts_.stopped += end.reason == FinishReason::stop;
  counts_.by_length += end.reason == FinishReason::length;
  counts_.cancelled += end.reason == FinishReason::cancelled;
  counts_.deadline += end.reason == FinishReason::deadline;
  counts_.preempted += end.usage.preemptions > 0;
  counts_.cached_tokens += static_cast<uint64_t>(end.usage.cached_tokens);
  counts_.with_cached += end.usage.cached_tokens > 0;
  Past past{.tenant = client.request().tenant, .priority = client.request().priority, .arrival_ns = client.arrival_ns(), .start_ns = INT64_MAX};
  if (client.started()) {
    past.start_ns = client.start_ns();
    counts_.longest_wait_ms = std::max(counts_.longest_wait_ms, static_cast<uint64_t>(end.usage.queued_ns / kNsPerMs));
    past.service = static_cast<uint64_t>(end.usage.prompt_tokens - end.usage.cached_tokens) +
                   FairQueue::kOutputWeight * static_cast<uint64_t>(end.usage.output_tokens);
  }
  const auto found = std::find_if(clients_.begin(), clients_.end(), [&](const auto& each) { return each.second.get() == &client; });
  past.id = found->first;
  past_.push_back(past);
  clients_.erase(found);
}

void World::plant() {
  if (fault_ == Fault::none || past_.size() < kFaultAfter || (planted_ && fault_ != Fault::stale_prefix)) return;
  BlockManager& blocks = CorePeer::blocks(core_);
  switch (fault_) {
    case Fault::none: break;
    case Fault::leaked_block: planted_ = KvPeer::leak_block(blocks, 0); break;
    case Fault::double_free: planted_ = CorePeer::free_twice(core_); break;
    case Fault::lost_end: planted_ = CorePeer::lose_end(core_); break;
    case Fault::stale_prefix: planted_ |= KvPeer::swap_contents(blocks, 0); break;  // until someone looks there
  }
}

std::string World::check_step(bool stepped) {
  ++counts_.audits;
  const BlockManager& blocks = core_.blocks();
  for (int32_t group = 0; group < blocks.groups(); ++group) {
    const KvCounts counts = blocks.counts(group);
    if (counts.free + counts.cached + counts.live != counts.total) return fmt::format("group {}: blocks are not conserved", group);
  }
  // References, lists and counts after every step; the hashes of all contents, which cost more, after every sixteenth.
  if (std::string found = blocks.audit(iteration_ % 16 == 0); !found.empty()) return found;
  const CoreCounters& c = core_.counters();
  const uint64_t mark = c.output_tokens + c.finished_stop + c.finished_length + c.finished_cancelled + c.finished_error;
  quiet_steps_ = mark == progress_mark_ && stepped ? quiet_steps_ + 1 : 0;
  progress_mark_ = mark;
  // However small the chunks, every seat's prompt has been read by then.
  const auto quiet_max = static_cast<uint64_t>(machine_.scheduler.max_num_seqs) * kContextMax;
  if (quiet_steps_ > quiet_max) return fmt::format("{} steps without a token or an end", quiet_steps_);
  if (!core_.idle() && !stepped && core_.scheduler().has_work()) return "there is work, and a step did nothing";
  if (iteration_ > 1'000'000 + static_cast<uint64_t>(requests_) * 10'000) return fmt::format("{} requests never end", clients_.size());
  if (core_.requests() == 0 && !clients_.empty() && !core_.undelivered()) {
    // The engine knows of nobody: whoever still waits has an End in a reader's ring, or has lost it.
    size_t unread = 0;
    for (const Reader& reader : readers_) {
      events_.clear();
      reader.queue->drain(events_);
      for (EngineEvent& event : events_) use_event(event);
      unread += events_.size();
    }
    if (unread == 0 && !clients_.empty()) return fmt::format("request {} got no End", clients_.begin()->first);
  }
  return violation_;
}

std::string World::check_end() {
  const auto& blocks = core_.blocks();
  for (int32_t i = 0; i < 3; ++i) core_.step();
  for (int32_t group = 0; group < blocks.groups(); ++group) {
    if (blocks.counts(group).live != 0) return "blocks are held by nobody's requests";
  }
  if (core_.requests() != 0 || !core_.idle()) return "the engine is not idle when everything has ended";
  if (admission_.queued_requests() != 0 || admission_.queued_tokens() != 0) return "the queue's count is not zero when everything has ended";
  return check_starts();
}

/// The order in which requests got their first step; see simulation.h.
std::string World::check_starts() {
  std::sort(past_.begin(), past_.end(), [](const Past& a, const Past& b) { return a.start_ns < b.start_ns; });
  const uint64_t unit = std::max<uint64_t>(kLengthMax, FairQueue::kOutputWeight * static_cast<uint64_t>(machine_.scheduler.max_num_seqs) * kLengthMax);
  std::vector<uint64_t> service(static_cast<size_t>(machine_.tenants));
  for (const Past& waiting : past_) {
    if (waiting.start_ns == INT64_MAX) break;
    std::fill(service.begin(), service.end(), 0);
    const auto after = std::upper_bound(past_.begin(), past_.end(), waiting.arrival_ns, [](TimeNs t, const Past& p) { return t < p.start_ns; });
    for (auto other = after; other != past_.end() && other->start_ns < waiting.start_ns; ++other) {
      if (other->priority > waiting.priority) return fmt::format("request {} of a worse priority started before {}", other->id, waiting.id);
      if (other->tenant == waiting.tenant && other->priority == waiting.priority && other->id > waiting.id) {
        return fmt::format("request {} overtook {} of the same tenant", other->id, waiting.id);
      }
      service[other->tenant] += other->service;
    }
    if (machine_.priorities > 1) continue;
    for (const uint64_t theirs : service) {
      if (theirs > service[waiting.tenant] + 4 * unit) return fmt::format("request {} starved: another tenant got {} tokens meanwhile", waiting.id, theirs);
    }
  }
  return {};
}

}  // namespace pagemill::simulation
