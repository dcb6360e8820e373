#include "simulation/simulation.h"

#include <algorithm>

#include <fmt/format.h>

#include "simulation/world.h"

namespace pagemill::simulation {

void Counts::add(const Counts& o) {
  worlds += o.worlds, overlapped_worlds += o.overlapped_worlds, windowed_worlds += o.windowed_worlds;
  requests += o.requests, stopped += o.stopped, by_length += o.by_length, cancelled += o.cancelled, deadline += o.deadline, rejected += o.rejected;
  preempted += o.preempted, preemptions += o.preemptions, forked += o.forked, constrained += o.constrained, scored += o.scored, pooled += o.pooled;
  with_cached += o.with_cached, delayed += o.delayed;
  steps += o.steps, prompt_tokens += o.prompt_tokens, output_tokens += o.output_tokens, cached_tokens += o.cached_tokens, audits += o.audits;
  longest_wait_ms = std::max(longest_wait_ms, o.longest_wait_ms);
}

std::string Counts::text() const {
  const auto share = [&](uint64_t count) { return requests ? 100.0 * static_cast<double>(count) / static_cast<double>(requests) : 0; };
  std::string out;
  const auto line = [&](const char* what, uint64_t count) { out += fmt::format("{:<28}{:>14}\n", what, count); };
  const auto part = [&](const char* what, uint64_t count) { out += fmt::format("{:<28}{:>14}{:>8.1f} %\n", what, count, share(count)); };
  line("worlds", worlds);
  line("  with overlapped steps", overlapped_worlds);
  line("  with windowed groups", windowed_worlds);
  line("requests", requests);
  part("  stopped", stopped);
  part("  ended by length", by_length);
  part("  cancelled", cancelled);
  part("  past their deadline", deadline);
  part("  preempted at least once", preempted);
  part("  with a cached prefix", with_cached);
  part("  with several choices", forked);
  part("  constrained", constrained);
  part("  scored prompts", scored);
  part("  embeddings", pooled);
  line("refused (queue bounds)", rejected);
  line("preemptions", preemptions);
  line("longest wait, virtual ms", longest_wait_ms);
  line("steps", steps);
  line("audits", audits);
  line("steps with a reader behind", delayed);
  line("prompt tokens computed", prompt_tokens);
  line("prompt tokens cached", cached_tokens);
  line("output tokens", output_tokens);
  return out;
}

WorldResult run_world(uint64_t seed, int requests, Fault fault) { return World(seed, requests, fault).run(); }

RunResult run_worlds(uint64_t seed, uint64_t requests, int world_requests, Fault fault) {
  RunResult result;
  while (result.counts.requests < requests) {
    WorldResult world = run_world(seed, world_requests, fault);
    result.counts.add(world.counts);
    if (!world.violation.empty()) {
      result.violation = std::move(world.violation);
      result.failing_seed = seed;
      return result;
    }
    ++seed;
  }
  return result;
}

}  // namespace pagemill::simulation
