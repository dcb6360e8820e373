#include "telemetry/machine_sampler.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "base/test_files.h"

namespace pagemill {
namespace {

class MachineSamplerTest : public testing::Test {
 protected:
  MachineSamplerTest() {
    std::filesystem::create_directories(root_ + "proc/self");
    write("proc/cpuinfo", "processor : 0\nmodel name\t: Test CPU 9000\n");
    write("proc/meminfo", "MemTotal:       1000 kB\nMemFree:         100 kB\nMemAvailable:    400 kB\n");
    write("proc/self/status", "Name:\tx\nVmRSS:\t     12 kB\n");
  }
  void write(const std::string& path, const std::string& text) { std::ofstream(root_ + path) << text; }

  const TemporaryFolder folder_;
  const std::string root_ = folder_.path().string() + "/";
};

TEST_F(MachineSamplerTest, ReadsWhatTheKernelSays) {
  write("proc/stat", "cpu  10 0 10 70 10 0 0 0 0 0\n");
  MachineSampler sampler(root_);
  EXPECT_EQ(sampler.info().cpu_name, "Test CPU 9000");
  EXPECT_EQ(sampler.info().memory_total_bytes, 1000u * 1024);
  MachineSample sample = sampler.sample();
  EXPECT_EQ(sample.cpu_utilization, 0);
  EXPECT_EQ(sample.memory_used_bytes, 600u * 1024);
  EXPECT_EQ(sample.process_rss_bytes, 12u * 1024);
  // 60 more ticks busy, 30 idle, 10 waiting for a disk.
  write("proc/stat", "cpu  50 0 30 100 20 0 0 0 0 0\n");
  sample = sampler.sample();
  EXPECT_DOUBLE_EQ(sample.cpu_utilization, 0.6);
}

TEST_F(MachineSamplerTest, LivesWithoutFiles) {
  MachineSampler sampler("/nonexistent/");
  const MachineSample sample = sampler.sample();
  EXPECT_EQ(sample.memory_total_bytes, 0u);
  EXPECT_EQ(sample.cpu_utilization, 0);
}

TEST(MachineSampler, OfThisMachine) {
  MachineSampler sampler;
  const MachineSample sample = sampler.sample();
  EXPECT_GT(sample.memory_total_bytes, sample.memory_used_bytes);
  EXPECT_GT(sample.process_rss_bytes, 0u);
}

}  // namespace
}  // namespace pagemill
