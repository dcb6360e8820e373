#include "base/metrics.h"

#include <gtest/gtest.h>

#include <cmath>
#include <thread>

namespace pagemill {
namespace {

TEST(Metrics, ExpositionIsPrometheusText) {
  MetricRegistry registry;
  registry.counter("app:requests_total", "Requests.", {{"path", "/a\"b\\c\nd"}}).add(3);
  registry.gauge("app:ratio", "A share.").set(0.25);
  Histogram& histogram = registry.histogram("app:wait_seconds", "Wait\nand see.", {0.5, 1, 2}, {{"model", "m"}});
  for (const double value : {0.5, 0.75, 3.0}) histogram.observe(value);
  EXPECT_EQ(registry.exposition(),
            "# HELP app:ratio A share.\n"
            "# TYPE app:ratio gauge\n"
            "app:ratio 0.25\n"
            "# HELP app:requests_total Requests.\n"
            "# TYPE app:requests_total counter\n"
            "app:requests_total{path=\"/a\\\"b\\\\c\\nd\"} 3\n"
            "# HELP app:wait_seconds Wait\\nand see.\n"
            "# TYPE app:wait_seconds histogram\n"
            "app:wait_seconds_bucket{model=\"m\",le=\"0.5\"} 1\n"
            "app:wait_seconds_bucket{model=\"m\",le=\"1\"} 2\n"
            "app:wait_seconds_bucket{model=\"m\",le=\"2\"} 2\n"
            "app:wait_seconds_bucket{model=\"m\",le=\"+Inf\"} 3\n"
            "app:wait_seconds_sum{model=\"m\"} 4.25\n"
            "app:wait_seconds_count{model=\"m\"} 3\n");
}

TEST(Metrics, SameNameAndLabelsAreOneSeries) {
  MetricRegistry registry;
  Counter& first = registry.counter("c_total", "", {{"a", "1"}});
  registry.counter("c_total", "", {{"a", "2"}}).add(10);
  registry.counter("c_total", "", {{"a", "1"}}).add(5);
  EXPECT_EQ(first.value(), 5u);
}

TEST(Metrics, CardinalityIsBounded) {
  MetricRegistry registry;
  for (int i = 0; i < 5'000; ++i) registry.counter("c_total", "", {{"who", std::to_string(i)}}).add();
  const std::string text = registry.exposition();
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), static_cast<long>(MetricRegistry::kSeriesPerFamily + 1 + 2));
  EXPECT_NE(text.find("c_total{who=\"other\"} " + std::to_string(5'000 - MetricRegistry::kSeriesPerFamily)), std::string::npos);
}

TEST(Metrics, UpdatesFromManyThreadsAllCount) {
  MetricRegistry registry;
  Histogram& histogram = registry.histogram("h", "", {1, 10});
  Counter& counter = registry.counter("c_total", "");
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&] {
      for (int i = 0; i < 10'000; ++i) {
        histogram.observe(i % 20);
        counter.add(2);
        if (i % 1'000 == 0) registry.exposition();
      }
    });
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(histogram.count(), 40'000u);
  EXPECT_EQ(histogram.sum(), 4 * 500 * 190.0);
  EXPECT_EQ(counter.value(), 80'000u);
}

TEST(Metrics, HostileValuesDoNoHarm) {
  Histogram histogram({1});
  histogram.observe(NAN);
  histogram.observe(INFINITY);
  histogram.observe(-1);
  EXPECT_EQ(histogram.count(), 2u);
  EXPECT_EQ(histogram.bucket(0), 1u);
}

TEST(Metrics, CollectorsRunBeforeEachExposition) {
  MetricRegistry registry;
  Counter& mirrored = registry.counter("c_total", "");
  uint64_t elsewhere = 7;
  registry.on_collect([&] { mirrored.advance_to(elsewhere); });
  EXPECT_NE(registry.exposition().find("c_total 7\n"), std::string::npos);
  elsewhere = 3;  // a counter never goes down
  EXPECT_NE(registry.exposition().find("c_total 7\n"), std::string::npos);
}

}  // namespace
}  // namespace pagemill
