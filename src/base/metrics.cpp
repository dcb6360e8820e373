#include "base/metrics.h"

#include <algorithm>
#include <cmath>
#include <variant>

#include <fmt/format.h>

#include "base/check.h"

namespace pagemill {
namespace {

std::string escaped(std::string_view value, bool quotes) {
  std::string out;
  for (const char c : value) {
    if (c == '\\') out += "\\\\";
    else if (c == '\n') out += "\\n";
    else if (c == '"' && quotes) out += "\\\"";
    else out += c;
  }
  return out;
}

/// `{a="x",b="y"}`; `extra` is a label already formatted. Empty where there is none.
std::string format_labels(const MetricLabels& labels, std::string_view extra = {}) {
  std::string out;
  for (const auto& [name, value] : labels) out += fmt::format("{}{}=\"{}\"", out.empty() ? "" : ",", name, escaped(value, true));
  if (!extra.empty()) out += fmt::format("{}{}", out.empty() ? "" : ",", extra);
  return out.empty() ? out : "{" + out + "}";
}

std::string format_number(double value) {
  if (std::isnan(value)) return "NaN";
  if (std::isinf(value)) return value > 0 ? "+Inf" : "-Inf";
  return fmt::format("{}", value);
}

void print(std::string& out, std::string_view name, const MetricLabels& labels, const Counter& counter) {
  fmt::format_to(std::back_inserter(out), "{}{} {}\n", name, format_labels(labels), counter.value());
}

void print(std::string& out, std::string_view name, const MetricLabels& labels, const Gauge& gauge) {
  fmt::format_to(std::back_inserter(out), "{}{} {}\n", name, format_labels(labels), format_number(gauge.value()));
}

void print(std::string& out, std::string_view name, const MetricLabels& labels, const Histogram& histogram) {
  uint64_t below = 0;
  const auto line = [&](const std::string& bound) {
    fmt::format_to(std::back_inserter(out), "{}_bucket{} {}\n", name, format_labels(labels, "le=\"" + bound + "\""), below);
  };
  for (size_t i = 0; i < histogram.bounds().size(); ++i) {
    below += histogram.bucket(i);
    line(format_number(histogram.bounds()[i]));
  }
  below += histogram.bucket(histogram.bounds().size());
  line("+Inf");
  // The count is the last bucket's, so that a scrape during an update still adds up.
  fmt::format_to(std::back_inserter(out), "{0}_sum{1} {2}\n{0}_count{1} {3}\n", name, format_labels(labels),
                 format_number(histogram.sum()), below);
}

}  // namespace

void Counter::advance_to(uint64_t total) {
  uint64_t seen = value();
  while (seen < total && !value_.compare_exchange_weak(seen, total, std::memory_order_relaxed)) {}
}

Histogram::Histogram(std::vector<double> bounds)
    : bounds_(std::move(bounds)), buckets_(new std::atomic<uint64_t>[bounds_.size() + 1]) {
  PM_CHECK(std::is_sorted(bounds_.begin(), bounds_.end()), "bounds of a histogram must ascend");
  for (size_t i = 0; i <= bounds_.size(); ++i) buckets_[i] = 0;
}

void Histogram::observe(double value, uint64_t times) {
  if (std::isnan(value)) return;
  const size_t i = static_cast<size_t>(std::lower_bound(bounds_.begin(), bounds_.end(), value) - bounds_.begin());
  buckets_[i].fetch_add(times, std::memory_order_relaxed);
  sum_.fetch_add(value * static_cast<double>(times), std::memory_order_relaxed);
}

uint64_t Histogram::count() const {
  uint64_t total = 0;
  for (size_t i = 0; i <= bounds_.size(); ++i) total += bucket(i);
  return total;
}

struct MetricRegistry::Family {
  struct Series {
    MetricLabels labels;
    std::variant<std::monostate, Counter, Gauge, Histogram> metric;
  };
  std::string help;
  Kind kind = Kind::counter;
  std::deque<Series> series;  // a deque: references stay valid
};

MetricRegistry::MetricRegistry() = default;
MetricRegistry::~MetricRegistry() = default;

template <class T, class Make>
T& MetricRegistry::series(std::string_view name, std::string_view help, Kind kind, const MetricLabels& labels, Make make) {
  std::lock_guard lock(mutex_);
  auto found = families_.find(name);
  if (found == families_.end()) {
    found = families_.emplace(std::string(name), std::make_unique<Family>()).first;
    found->second->help = help;
    found->second->kind = kind;
  }
  Family& family = *found->second;
  PM_CHECK(family.kind == kind, "metric {} registered as two kinds", name);
  const auto find = [&](const MetricLabels& wanted) -> T* {
    for (Family::Series& one : family.series)
      if (one.labels == wanted) return &std::get<T>(one.metric);
    return nullptr;
  };
  if (T* existing = find(labels)) return *existing;
  MetricLabels kept = labels;
  if (family.series.size() >= kSeriesPerFamily) {
    for (auto& label : kept) label.second = "other";
    if (T* existing = find(kept)) return *existing;
  }
  Family::Series& added = family.series.emplace_back();
  added.labels = std::move(kept);
  return make(added.metric);
}

Counter& MetricRegistry::counter(std::string_view name, std::string_view help, const MetricLabels& labels) {
  return series<Counter>(name, help, Kind::counter, labels, [](auto& metric) -> Counter& { return metric.template emplace<Counter>(); });
}

Gauge& MetricRegistry::gauge(std::string_view name, std::string_view help, const MetricLabels& labels) {
  return series<Gauge>(name, help, Kind::gauge, labels, [](auto& metric) -> Gauge& { return metric.template emplace<Gauge>(); });
}

Histogram& MetricRegistry::histogram(std::string_view name, std::string_view help, const std::vector<double>& bounds,
                                     const MetricLabels& labels) {
  return series<Histogram>(name, help, Kind::histogram, labels,
                           [&](auto& metric) -> Histogram& { return metric.template emplace<Histogram>(bounds); });
}

void MetricRegistry::on_collect(std::function<void()> collect) {
  std::lock_guard lock(collect_mutex_);
  collectors_.push_back(std::move(collect));
}

std::string MetricRegistry::exposition() const {
  {
    std::lock_guard lock(collect_mutex_);
    for (const auto& collect : collectors_) collect();
  }
  static constexpr std::string_view kKindNames[] = {"counter", "gauge", "histogram"};
  std::string out;
  std::lock_guard lock(mutex_);
  for (const auto& [name, family] : families_) {
    fmt::format_to(std::back_inserter(out), "# HELP {} {}\n# TYPE {} {}\n", name, escaped(family->help, false), name,
                   kKindNames[static_cast<int>(family->kind)]);
    for (const Family::Series& one : family->series)
      std::visit([&](const auto& metric) {
        if constexpr (!std::is_same_v<std::decay_t<decltype(metric)>, std::monostate>) print(out, name, one.labels, metric);
      }, one.metric);
  }
  return out;
}

}  // namespace pagemill
