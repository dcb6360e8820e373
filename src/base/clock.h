// Time as a parameter, so that everything that waits or measures also runs in virtual time.
#pragma once

#include <atomic>
#include <cstdint>

namespace pagemill {

/// Nanoseconds of a steady clock with an arbitrary origin.
using TimeNs = int64_t;
inline constexpr TimeNs kNsPerMs = 1'000'000;
inline constexpr TimeNs kNsPerSecond = 1'000'000'000;

/// Safe from any thread.
class Clock {
 public:
  virtual ~Clock() = default;
  virtual TimeNs now_ns() const = 0;
};

/// CLOCK_MONOTONIC.
class SteadyClock final : public Clock {
 public:
  TimeNs now_ns() const override;
  /// The one that production code shares.
  static const SteadyClock& instance();
};

/// Stands still until it is told to move. For simulations and tests.
class ManualClock final : public Clock {
 public:
  explicit ManualClock(TimeNs start_ns = 0) : now_(start_ns) {}
  TimeNs now_ns() const override { return now_.load(std::memory_order_relaxed); }
  void advance_ns(TimeNs delta_ns) { now_.fetch_add(delta_ns, std::memory_order_relaxed); }

 private:
  std::atomic<TimeNs> now_;
};

}  // namespace pagemill
