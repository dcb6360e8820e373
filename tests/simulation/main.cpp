// pagemill-simulate: runs the simulation and prints its counts. Exit status 1 after a violation, with the seed that shows it.
#include <cstdio>
#include <map>
#include <random>

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include "simulation/simulation.h"

int main(int argc, char** argv) {
  using namespace pagemill::simulation;
  uint64_t requests = 10'000, seed = std::random_device{}();
  int world_requests = 1'000;
  Fault fault = Fault::none;
  const std::map<std::string, Fault> faults = {{"none", Fault::none}, {"leaked-block", Fault::leaked_block}, {"double-free", Fault::double_free},
                                               {"lost-end", Fault::lost_end}, {"stale-prefix", Fault::stale_prefix}};
  CLI::App app("Simulate the engine in virtual time on a fake device, and check it after every step.");
  app.add_option("--requests", requests, "Requests in all")->capture_default_str();
  app.add_option("--seed", seed, "The first world's seed; the next worlds count up from it (default: a fresh one)");
  app.add_option("--world-requests", world_requests, "Requests of one world")->capture_default_str();
  app.add_option("--plant", fault, "A fault to plant")->transform(CLI::CheckedTransformer(faults));
  CLI11_PARSE(app, argc, argv);

  fmt::print("seed {}\n", seed);
  std::fflush(stdout);
  const RunResult result = run_worlds(seed, requests, world_requests, fault);
  fmt::print("{}", result.counts.text());
  if (result.violation.empty()) return 0;
  fmt::print("VIOLATION: {}\nagain with: pagemill-simulate --seed {} --requests {} --world-requests {}\n", result.violation, result.failing_seed,
             world_requests, world_requests);
  return 1;
}
