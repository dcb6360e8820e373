// FairQueue: requests that wait for their first step, fair between tenants.
//
// Invariants:
//   1. Order: best priority first (lower numbers); within a priority the tenant that has been served least; within a tenant
//      first come, first served. Nobody is passed over because a request behind it would be easier to fit.
//   2. A tenant's service only grows.
//   3. No lane is empty, and a lane's requests are one tenant's at one priority.
//
// Service is counted in tokens as in Sheng et al., "Fairness in Serving Large Language Models" (OSDI 2024): a prompt token
// computed costs 1, an answer's token kOutputWeight. A tenant that comes back after having had nothing to wait for
// starts at the level of the least served one waiting, so idleness earns no credit.
//
// Bound (as they prove it for their virtual token counter): between two tenants that both have requests waiting at one priority, the service received over any
// period differs by at most 2 · max(longest prompt, kOutputWeight · tokens that the running sequences may still produce).
// Owned by the engine thread.
#pragma once

#include <cstdint>
#include <map>
#include <unordered_map>
#include <vector>

#include "engine/sequence.h"

namespace pagemill {

class FairQueue {
 public:
  static constexpr uint64_t kOutputWeight = 2;

  void push(Sequence& sequence);
  /// Takes it out, wherever it stands.
  void remove(Sequence& sequence);
  /// The next in order, or null.
  Sequence* front() const;
  bool empty() const { return size_ == 0; }
  int32_t size() const { return size_; }

  void charge_prompt(uint64_t tenant, int32_t tokens) { charge(tenant, static_cast<uint64_t>(tokens)); }
  void charge_output(uint64_t tenant) { charge(tenant, kOutputWeight); }
  uint64_t service(uint64_t tenant) const;

 private:
  struct Tenant {
    uint64_t service = 0;
    int32_t waiting = 0;
  };
  /// The waiting requests of one tenant at one priority, oldest first.
  struct Lane {
    uint64_t tenant = 0;
    const Tenant* account = nullptr;
    Sequence* oldest = nullptr;
    Sequence* newest = nullptr;
  };

  void charge(uint64_t tenant, uint64_t amount) { tenants_[tenant].service += amount; }
  uint64_t least_service_waiting() const;
  void forget_idle_tenants();

  std::map<int32_t, std::vector<Lane>> lanes_;      // by priority; no lane is empty
  std::unordered_map<uint64_t, Tenant> tenants_;
  uint64_t level_ = 0;                              // service of the tenant that left the queue last
  size_t forget_at_ = 1024;                         // tenants, before idle ones are looked for
  int32_t size_ = 0;
};

}  // namespace pagemill
