// LoginThrottle: slows down guessing. An attempt counts before it is checked, so that parallel ones count too, and is forgiven when it
// succeeds. After some free attempts the wait doubles. Counted per account and address together, per address, and (with more
// patience, so that nobody can lock somebody else out for long) per account.
#pragma once

#include <cstdint>
#include <mutex>
#include <string>
#include <unordered_map>

#include "base/clock.h"

namespace pagemill::chat {

class LoginThrottle {
 public:
  explicit LoginThrottle(const Clock& clock) : clock_(clock) {}

  /// Seconds to wait, or 0: then the attempt has been counted.
  int attempt(const std::string& account, const std::string& address);
  void succeeded(const std::string& account, const std::string& address);

 private:
  struct Bucket {
    int failures = 0;
    TimeNs last_ns = 0;
  };
  TimeNs wait_until(const std::string& key, int free);

  const Clock& clock_;
  std::mutex mutex_;
  std::unordered_map<std::string, Bucket> buckets_;
};

}  // namespace pagemill::chat
