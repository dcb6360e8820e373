#include "base/machine.h"

#include <sched.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include <gtest/gtest.h>

#include "base/test_files.h"

namespace pagemill {
namespace {

TEST(Machine, ThreadsFollowTheAffinityMask) {
  cpu_set_t before;
  ASSERT_EQ(sched_getaffinity(0, sizeof before, &before), 0);
  EXPECT_GE(usable_threads(), 1);
  EXPECT_LE(usable_threads(), CPU_COUNT(&before));
  cpu_set_t one;
  CPU_ZERO(&one);
  for (int cpu = 0; cpu < CPU_SETSIZE && CPU_COUNT(&one) == 0; ++cpu)
    if (CPU_ISSET(cpu, &before)) CPU_SET(cpu, &one);
  ASSERT_EQ(sched_setaffinity(0, sizeof one, &one), 0);
  EXPECT_EQ(usable_threads(), 1);
  ASSERT_EQ(sched_setaffinity(0, sizeof before, &before), 0);
}

/// A root with the given files.
class FakeRoot {
 public:
  void write(const std::string& name, const std::string& content) const {
    std::filesystem::create_directories((folder_.path() / name).parent_path());
    std::ofstream(folder_.path() / name) << content;
  }
  std::string path() const { return folder_.path().string(); }

 private:
  TemporaryFolder folder_;
};

constexpr uint64_t kMiB = 1 << 20;
constexpr const char* kMeminfo = "MemTotal:       1048576 kB\nMemFree: 1 kB\nMemAvailable:    524288 kB\n";

TEST(Machine, WithoutLimitsTheKernelsFiguresHold) {
  FakeRoot root;
  root.write("proc/meminfo", kMeminfo);
  root.write("proc/self/cgroup", "0::/\n");
  EXPECT_EQ(detail::memory_bytes(root.path()).total, 1024 * kMiB);
  EXPECT_EQ(detail::memory_bytes(root.path()).available, 512 * kMiB);
  EXPECT_EQ(detail::cpu_quota(root.path()), 0);
}

TEST(Machine, TheTightestGroupBindsAndItsFileCacheIsFree) {
  FakeRoot root;
  root.write("proc/meminfo", kMeminfo);
  root.write("proc/self/cgroup", "0::/a/b\n");
  root.write("sys/fs/cgroup/a/memory.max", "419430400\n");      // 400 MiB
  root.write("sys/fs/cgroup/a/memory.current", "314572800\n");  // 300 MiB, of which 200 cache
  root.write("sys/fs/cgroup/a/memory.stat", "anon 104857600\nactive_file 157286400\ninactive_file 52428800\n");
  root.write("sys/fs/cgroup/a/b/memory.max", "max\n");
  root.write("sys/fs/cgroup/a/cpu.max", "150000 100000\n");
  root.write("sys/fs/cgroup/a/b/cpu.max", "max 100000\n");
  EXPECT_EQ(detail::memory_bytes(root.path()).total, 400 * kMiB);
  EXPECT_EQ(detail::memory_bytes(root.path()).available, 300 * kMiB);
  EXPECT_EQ(detail::cpu_quota(root.path()), 1.5);
}

TEST(Machine, FirstVersionGroupsCountToo) {
  FakeRoot root;
  root.write("proc/meminfo", kMeminfo);
  root.write("proc/self/cgroup", "5:cpuacct,cpu:/x\n4:memory:/x\n");
  root.write("sys/fs/cgroup/memory/x/memory.limit_in_bytes", "104857600\n");
  root.write("sys/fs/cgroup/memory/x/memory.usage_in_bytes", "52428800\n");
  root.write("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n");
  root.write("sys/fs/cgroup/cpu/x/cpu.cfs_quota_us", "50000\n");
  root.write("sys/fs/cgroup/cpu/x/cpu.cfs_period_us", "100000\n");
  EXPECT_EQ(detail::memory_bytes(root.path()).total, 100 * kMiB);
  EXPECT_EQ(detail::memory_bytes(root.path()).available, 50 * kMiB);
  EXPECT_EQ(detail::cpu_quota(root.path()), 0.5);
}

TEST(Machine, SomeMemoryIsAvailable) {
  EXPECT_GT(available_memory_bytes(), 16 * kMiB);
  EXPECT_GE(total_memory_bytes(), available_memory_bytes());
}

}  // namespace
}  // namespace pagemill
