#include "base/worker_pool.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <latch>

namespace pagemill {
namespace {

TEST(WorkerPool, RunsEverythingItAccepted) {
  std::atomic<int> done = 0;
  int accepted = 0;
  {
    WorkerPool pool({.threads = 3, .queued_max = 10'000});
    for (int i = 0; i < 10'000; ++i) accepted += pool.submit([&] { ++done; });
  }
  EXPECT_EQ(accepted, 10'000);
  EXPECT_EQ(done, 10'000);
}

TEST(WorkerPool, RefusesWhatDoesNotFitTheQueue) {
  std::latch release(1), started(1);
  std::atomic<int> done = 0;
  WorkerPool pool({.threads = 1, .queued_max = 2});
  ASSERT_TRUE(pool.submit([&] { started.count_down(); release.wait(); ++done; }));
  started.wait();
  EXPECT_TRUE(pool.submit([&] { ++done; }));
  EXPECT_TRUE(pool.submit([&] { ++done; }));
  EXPECT_FALSE(pool.submit([&] { ++done; }));
  EXPECT_EQ(pool.queued(), 2u);
  release.count_down();
  pool.stop();
  EXPECT_EQ(done, 3);
}

TEST(WorkerPool, TakesNothingAfterStop) {
  WorkerPool pool;
  pool.stop();
  EXPECT_FALSE(pool.submit([] { FAIL() << "ran after stop"; }));
}

TEST(WorkerPool, ATaskMaySubmitAnother) {
  std::latch both(2);
  WorkerPool pool;
  ASSERT_TRUE(pool.submit([&] {
    EXPECT_TRUE(pool.submit([&] { both.count_down(); }));
    both.count_down();
  }));
  both.wait();
}

TEST(WorkerPool, RunsBelowTheCallersPriority) {
  const auto priority = [] { return getpriority(PRIO_PROCESS, static_cast<id_t>(syscall(SYS_gettid))); };
  const int mine = priority();
  int theirs = mine;
  WorkerPool pool({.nice = 3});
  ASSERT_TRUE(pool.submit([&] { theirs = priority(); }));
  pool.stop();
  EXPECT_EQ(theirs, std::min(mine + 3, 19));
  EXPECT_EQ(priority(), mine);
}

}  // namespace
}  // namespace pagemill
