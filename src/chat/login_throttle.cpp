#include "chat/login_throttle.h"

#include <algorithm>
#include <array>

namespace pagemill::chat {
namespace {

constexpr int kFreeTogether = 5, kFreeAddress = 20, kFreeAccount = 50;
constexpr TimeNs kWaitMax = 900 * kNsPerSecond, kForgetAfter = 3'600 * kNsPerSecond;
constexpr size_t kBucketsMax = 20'000;

}  // namespace

TimeNs LoginThrottle::wait_until(const std::string& key, int free) {
  const auto found = buckets_.find(key);
  if (found == buckets_.end() || found->second.failures < free) return 0;
  const int doublings = std::min(found->second.failures - free, 10);
  return found->second.last_ns + std::min(kWaitMax, kNsPerSecond << doublings);
}

int LoginThrottle::attempt(const std::string& account, const std::string& address) {
  std::lock_guard lock(mutex_);
  const TimeNs now = clock_.now_ns();
  const std::array<std::pair<std::string, int>, 3> keys{{{"b" + account + "\n" + address, kFreeTogether}, {"i" + address, kFreeAddress}, {"a" + account, kFreeAccount}}};
  TimeNs until = 0;
  for (const auto& [key, free] : keys) until = std::max(until, wait_until(key, free));
  if (until > now) return static_cast<int>((until - now + kNsPerSecond - 1) / kNsPerSecond);
  if (buckets_.size() > kBucketsMax) std::erase_if(buckets_, [&](const auto& entry) { return now - entry.second.last_ns > kForgetAfter; });
  if (buckets_.size() > kBucketsMax) buckets_.clear();  // addresses without end: bounded memory goes first
  for (const auto& [key, free] : keys) {
    Bucket& bucket = buckets_[key];
    if (now - bucket.last_ns > kForgetAfter) bucket.failures = 0;
    ++bucket.failures;
    bucket.last_ns = now;
  }
  return 0;
}

void LoginThrottle::succeeded(const std::string& account, const std::string& address) {
  std::lock_guard lock(mutex_);
  buckets_.erase("b" + account + "\n" + address);
  for (const std::string& key : {"i" + address, "a" + account})
    if (const auto found = buckets_.find(key); found != buckets_.end() && --found->second.failures <= 0) buckets_.erase(found);
}

}  // namespace pagemill::chat
