#include "engine/fair_queue.h"

#include <algorithm>

namespace pagemill {

uint64_t FairQueue::least_service_waiting() const {
  uint64_t least = UINT64_MAX;
  for (const auto& [priority, lanes] : lanes_) {
    for (const Lane& lane : lanes) least = std::min(least, lane.account->service);
  }
  return least == UINT64_MAX ? level_ : least;
}

void FairQueue::push(Sequence& sequence) {
  const uint64_t id = sequence.request->spec.tenant;
  if (tenants_.size() >= forget_at_) forget_idle_tenants();
  Tenant& tenant = tenants_[id];
  if (tenant.waiting++ == 0) tenant.service = std::max(tenant.service, least_service_waiting());
  ++size_;
  auto& lanes = lanes_[sequence.request->spec.priority];
  auto lane = std::find_if(lanes.begin(), lanes.end(), [&](const Lane& each) { return each.tenant == id; });
  if (lane == lanes.end()) lane = lanes.insert(lanes.end(), Lane{.tenant = id, .account = &tenant});
  sequence.older = lane->newest;
  sequence.newer = nullptr;
  (lane->newest ? lane->newest->newer : lane->oldest) = &sequence;
  lane->newest = &sequence;
}

void FairQueue::remove(Sequence& sequence) {
  const uint64_t id = sequence.request->spec.tenant;
  const auto place = lanes_.find(sequence.request->spec.priority);
  auto& lanes = place->second;
  const auto lane = std::find_if(lanes.begin(), lanes.end(), [&](const Lane& each) { return each.tenant == id; });
  (sequence.older ? sequence.older->newer : lane->oldest) = sequence.newer;
  (sequence.newer ? sequence.newer->older : lane->newest) = sequence.older;
  sequence.older = sequence.newer = nullptr;
  if (!lane->oldest) lanes.erase(lane);
  if (lanes.empty()) lanes_.erase(place);
  Tenant& tenant = tenants_[id];
  --size_;
  if (--tenant.waiting == 0) level_ = tenant.service;
}

Sequence* FairQueue::front() const {
  if (lanes_.empty()) return nullptr;
  const auto& lanes = lanes_.begin()->second;
  const auto next = std::min_element(lanes.begin(), lanes.end(), [](const Lane& a, const Lane& b) {
    if (a.account->service != b.account->service) return a.account->service < b.account->service;
    return a.oldest->request->id < b.oldest->request->id;
  });
  return next->oldest;
}

uint64_t FairQueue::service(uint64_t tenant) const {
  const auto found = tenants_.find(tenant);
  return found == tenants_.end() ? 0 : found->second.service;
}

/// Those who would be raised to the common level anyway when they come back.
void FairQueue::forget_idle_tenants() {
  const uint64_t level = least_service_waiting();
  std::erase_if(tenants_, [&](const auto& entry) { return entry.second.waiting == 0 && entry.second.service <= level; });
  forget_at_ = std::max<size_t>(1024, tenants_.size() * 2);
}

}  // namespace pagemill
