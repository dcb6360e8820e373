#include "backend/cpu/compute_pool.h"

#include <ctime>
#include <numeric>

#include <gtest/gtest.h>

#include "base/clock.h"

namespace pagemill {
namespace {

TEST(ComputePool, RunsEveryTaskOnce) {
  for (const int threads : {1, 2, 3, 8}) {
    ComputePool pool(threads);
    EXPECT_EQ(pool.threads(), threads);
    for (const int64_t tasks : {0, 1, 2, 3, 17, 1000}) {
      std::vector<std::atomic<int>> runs(static_cast<size_t>(tasks));
      pool.run("test", tasks, [&](int64_t task, int) { runs[static_cast<size_t>(task)].fetch_add(1, std::memory_order_relaxed); });
      for (const auto& count : runs) ASSERT_EQ(count.load(), 1) << threads << " threads, " << tasks << " tasks";
    }
  }
}

// What a phase wrote is seen by the caller and by the next phase, without atomics of their own.
TEST(ComputePool, PhasesSeeWhatTheOnesBeforeWrote) {
  ComputePool pool(4);
  std::vector<int64_t> values(257, 0);
  for (int phase = 0; phase < 3000; ++phase) {
    const auto shift = static_cast<size_t>(phase) % values.size();
    pool.run("test", static_cast<int64_t>(values.size()), [&](int64_t task, int) { ++values[(static_cast<size_t>(task) + shift) % values.size()]; });
  }
  for (const int64_t value : values) ASSERT_EQ(value, 3000);
}

// Scratch memory is indexed by thread: a thread number is never in use twice.
TEST(ComputePool, AThreadRunsOneTaskAtATime) {
  ComputePool pool(4);
  std::vector<int64_t> scratch(4, 0);  // plain: ThreadSanitizer would see two users
  for (int phase = 0; phase < 500; ++phase)
    pool.run("test", 64, [&](int64_t, int thread) { ++scratch[static_cast<size_t>(thread)]; });
  EXPECT_EQ(std::accumulate(scratch.begin(), scratch.end(), int64_t{0}), 500 * 64);
}

TEST(ComputePool, RangesCoverEverythingOnce) {
  ComputePool pool(3);
  for (const int64_t items : {0, 1, 5, 1000, 4097}) {
    std::vector<std::atomic<int>> seen(static_cast<size_t>(items));
    pool.run_ranges("test", items, 64, [&](int64_t begin, int64_t end, int) {
      EXPECT_TRUE(end - begin >= 64 || end == items);
      for (int64_t i = begin; i < end; ++i) seen[static_cast<size_t>(i)].fetch_add(1);
    });
    for (const auto& count : seen) ASSERT_EQ(count.load(), 1);
  }
}

TEST(ComputePool, ATraceHasEveryPhaseAndTheTimeInItsTasks) {
  const Clock& clock = SteadyClock::instance();
  for (const int threads : {1, 3}) {
    ComputePool pool(threads);
    std::atomic<TimeNs> inside{0};  // as the tasks see it themselves
    const auto task = [&](int64_t, int) {
      const TimeNs begin = clock.now_ns();
      TimeNs now = begin;
      while (now - begin < kNsPerMs / 10) now = clock.now_ns();
      inside.fetch_add(now - begin);
    };
    std::vector<PhaseTime> trace;
    pool.run("before", 2, task);
    pool.trace(&trace);
    inside = 0;
    pool.run({"product", 32, 64}, 6, task);
    const TimeNs in_product = inside.exchange(0);
    pool.run_ranges("ranges", 10, 10, [&](int64_t begin, int64_t, int thread) { task(begin, thread); });
    const TimeNs in_ranges = inside.exchange(0);
    pool.run("nothing", 0, task);
    pool.trace(nullptr);
    pool.run("after", 2, task);
    ASSERT_EQ(trace.size(), 3u);
    EXPECT_EQ(trace[0].name.in, 32);
    EXPECT_EQ(trace[0].name.out, 64);
    const char* const names[] = {"product", "ranges", "nothing"};
    const int64_t tasks[] = {6, 1, 0};
    const TimeNs in_tasks[] = {in_product, in_ranges, 0};
    for (size_t i = 0; i < trace.size(); ++i) {
      const PhaseTime& phase = trace[i];
      EXPECT_STREQ(phase.name.op, names[i]);
      EXPECT_EQ(phase.tasks, tasks[i]);
      EXPECT_GE(phase.busy_ns, in_tasks[i]);
      EXPECT_LE(phase.busy_ns, (phase.end_ns - phase.begin_ns) * threads);
      EXPECT_GE(phase.begin_ns, i == 0 ? 0 : trace[i - 1].end_ns);
    }
    EXPECT_GE(in_product, 6 * kNsPerMs / 10);
    EXPECT_EQ(trace[2].busy_ns, 0);
  }
}

// Workers go to sleep and are woken again, also when phases follow at every distance from "at once" to "long asleep".
TEST(ComputePool, WakesFromSleep) {
  ComputePool pool(3);
  std::atomic<int64_t> sum{0};
  for (int round = 0; round < 60; ++round) {
    std::this_thread::sleep_for(std::chrono::microseconds(round * round));
    pool.run("test", 50, [&](int64_t task, int) { sum.fetch_add(task); });
  }
  EXPECT_EQ(sum.load(), 60 * (49 * 50 / 2));
}

TEST(ComputePool, TakesNoProcessorTimeWhenIdle) {
  ComputePool pool(8);
  pool.run("test", 100, [](int64_t, int) {});
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  const std::clock_t before = std::clock();  // of the whole process
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
  const double used_ms = 1000.0 * static_cast<double>(std::clock() - before) / CLOCKS_PER_SEC;
  EXPECT_LT(used_ms, 60);  // eight spinning threads would take 300 ms a core
}

TEST(ComputePool, EndsWhileWorkersAreAwakeOrAsleep) {
  for (int round = 0; round < 200; ++round) {
    ComputePool pool(4);
    if (round % 2 == 0) pool.run("test", 8, [](int64_t, int) {});
  }
}

TEST(ComputePoolDeathTest, RefusesToBeEnteredTwice) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_DEATH(
      {
        ComputePool pool(2);
        pool.run("test", 64, [&](int64_t, int) { pool.run("test", 64, [](int64_t, int) {}); });
      },
      "not reentrant");
}

}  // namespace
}  // namespace pagemill
