// Metrics: counters, gauges and histograms with lock-free updates, and their Prometheus text exposition (format 0.0.4).
//
// A series is registered once (a lock, an allocation) and then updated through its reference, which stays valid as long as
// the registry lives. Any thread may do anything. A family holds at most kSeriesPerFamily label sets; further ones share a
// series whose label values are all "other", so that no client can grow the registry.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace pagemill {

class Counter {
 public:
  void add(uint64_t count = 1) { value_.fetch_add(count, std::memory_order_relaxed); }
  /// Takes over a count kept elsewhere; never goes down.
  void advance_to(uint64_t total);
  uint64_t value() const { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<uint64_t> value_{0};
};

class Gauge {
 public:
  void set(double value) { value_.store(value, std::memory_order_relaxed); }
  void add(double delta) { value_.fetch_add(delta, std::memory_order_relaxed); }
  double value() const { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<double> value_{0};
};

class Histogram {
 public:
  /// `bounds`: upper bounds of the buckets, ascending; one more holds what is above. NaN is not counted.
  explicit Histogram(std::vector<double> bounds);
  void observe(double value, uint64_t times = 1);
  const std::vector<double>& bounds() const { return bounds_; }
  /// Of bucket i alone, not cumulated; i = bounds().size() is the one above all bounds.
  uint64_t bucket(size_t i) const { return buckets_[i].load(std::memory_order_relaxed); }
  double sum() const { return sum_.load(std::memory_order_relaxed); }
  uint64_t count() const;

 private:
  std::vector<double> bounds_;
  std::unique_ptr<std::atomic<uint64_t>[]> buckets_;  // [bounds + 1]
  std::atomic<double> sum_{0};
};

using MetricLabels = std::vector<std::pair<std::string, std::string>>;

class MetricRegistry {
 public:
  static constexpr size_t kSeriesPerFamily = 256;

  MetricRegistry();
  ~MetricRegistry();

  /// The series of that name and those labels, made where it does not exist yet. A name has one kind and one help text.
  Counter& counter(std::string_view name, std::string_view help, const MetricLabels& labels = {});
  Gauge& gauge(std::string_view name, std::string_view help, const MetricLabels& labels = {});
  Histogram& histogram(std::string_view name, std::string_view help, const std::vector<double>& bounds, const MetricLabels& labels = {});

  /// Called at the start of every exposition(), to bring series up to date that mirror something else. Must be quick.
  void on_collect(std::function<void()> collect);

  /// All families in the order of their names.
  std::string exposition() const;

 private:
  struct Family;
  enum class Kind { counter, gauge, histogram };
  template <class T, class Make>
  T& series(std::string_view name, std::string_view help, Kind kind, const MetricLabels& labels, Make make);

  mutable std::mutex mutex_;
  std::map<std::string, std::unique_ptr<Family>, std::less<>> families_;
  mutable std::mutex collect_mutex_;
  std::vector<std::function<void()>> collectors_;
};

}  // namespace pagemill
