// World: one machine with its clients, see simulation.h.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <queue>
#include <set>
#include <vector>

#include "base/rng.h"
#include "engine/core.h"
#include "simulation/client.h"
#include "simulation/fake_device.h"
#include "simulation/simulation.h"

namespace pagemill::simulation {

struct Machine {
  FakeDeviceConfig device;
  SchedulerConfig scheduler;
  int32_t tenants = 1;
  int32_t priorities = 1;
  int32_t outstanding = 1;               // requests that clients keep going at once
  int32_t queued_max = 1;
};
Machine random_machine(SplitMix64& random);

class World {
 public:
  World(uint64_t seed, int requests, Fault fault);
  WorldResult run();

 private:
  struct Reader {
    std::shared_ptr<EventQueue> queue;
    int every = 1;                       // drains each so many steps
  };
  /// A request that is over: what the checks on the order of starts need.
  struct Past {
    RequestId id = 0;
    uint64_t tenant = 0;
    int32_t priority = 0;
    TimeNs arrival_ns = 0, start_ns = 0;
    uint64_t service = 0;
  };

  void submit_new();
  void submit_one();
  void cancel_due();
  void read_events();
  void use_event(EngineEvent& event);
  void finish(Client& client);
  void plant();
  std::string check_step(bool progressed);
  std::string check_end();
  std::string check_starts();
  void violate(std::string what) {
    if (violation_.empty()) violation_ = std::move(what);
  }

  SplitMix64 random_;
  const int requests_;
  const Fault fault_;
  Machine machine_;
  ManualClock clock_{1};
  FakeDevice device_;
  Admission admission_;
  EngineCore core_;
  std::vector<Reader> readers_;
  std::map<RequestId, std::unique_ptr<Client>> clients_;     // not yet ended
  std::vector<Past> past_;
  std::priority_queue<std::pair<TimeNs, RequestId>, std::vector<std::pair<TimeNs, RequestId>>, std::greater<>> cancels_;
  std::vector<EngineEvent> events_;
  Counts counts_;
  int submitted_ = 0;
  uint64_t iteration_ = 0;
  uint64_t progress_mark_ = 0, quiet_steps_ = 0;
  bool planted_ = false;
  std::string violation_;
};

}  // namespace pagemill::simulation
