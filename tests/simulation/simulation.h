// The simulation: worlds of requests in virtual time, served by the shipped scheduler, block manager and streams on a fake
// device, and checked after every step.
//
// A world is made of its seed alone: the machine (seats, blocks, groups, windows, steps in flight), the requests (lengths
// log-uniform from 1 to 2,000, shared prefixes, tenants, priorities, choices, constraints, deadlines), the readers (some slow) and
// who gives up when. So a violation is reproduced by its seed.
//
// Checked: after every step, that blocks are conserved in every group (audit; the hashes of all contents every 16 steps)
// and that something gets on; with every
// event, that a token is the one the model says to this sequence alone and that the order of events is right; at the end, that
// every request ended exactly once, that nothing is held any more, and the order in which requests started:
//   within a tenant and priority, in the order of arrival; never a worse priority before a better one that waits; and
//   with one priority, while a request of tenant t waits, every other tenant's requests that start receive at most
//   4 U tokens of service more than t's, U = max(longest prompt, kOutputWeight · seats · longest answer). So a request that waits
//   behind A tokens of its own tenant's starts after at most tenants · (A + 4 U) tokens of service: nobody starves.
#pragma once

#include <cstdint>
#include <string>

namespace pagemill::simulation {

/// Faults planted to see that they are found.
enum class Fault { none, leaked_block, double_free, lost_end, stale_prefix };

/// Summed over worlds.
struct Counts {
  uint64_t worlds = 0, overlapped_worlds = 0, windowed_worlds = 0;
  uint64_t requests = 0, stopped = 0, by_length = 0, cancelled = 0, deadline = 0, rejected = 0;
  uint64_t preempted = 0, preemptions = 0, forked = 0, constrained = 0, scored = 0, pooled = 0, with_cached = 0, delayed = 0;
  uint64_t steps = 0, prompt_tokens = 0, output_tokens = 0, cached_tokens = 0, audits = 0;
  uint64_t longest_wait_ms = 0;        // of a request, from its arrival to its first step; virtual

  void add(const Counts& other);
  /// A line per count.
  std::string text() const;
};

struct WorldResult {
  Counts counts;
  std::string violation;               // empty = none
};

WorldResult run_world(uint64_t seed, int requests, Fault fault = Fault::none);

/// Worlds of `world_requests` under seeds `seed`, `seed` + 1, … until there were at least `requests`, or a violation.
struct RunResult {
  Counts counts;
  std::string violation;
  uint64_t failing_seed = 0;
};
RunResult run_worlds(uint64_t seed, uint64_t requests, int world_requests, Fault fault = Fault::none);

}  // namespace pagemill::simulation
