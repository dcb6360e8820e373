// GPUs' figures through a libnvidia-ml.so.1 that nvml_fake.cpp makes; this binary's run path leads to it.
#include "telemetry/nvml.h"

#include <dlfcn.h>
#include <gtest/gtest.h>

namespace pagemill {
namespace {

TEST(NvmlTest, GivesWhatTheLibrarySaysAndNothingElse) {
  {
    MachineSampler sampler;
    ASSERT_EQ(sampler.info().gpus.size(), 2u);
    EXPECT_EQ(sampler.info().gpus[0].name, "Fake GPU 0");
    EXPECT_EQ(sampler.info().gpus[1].index, 1);
    EXPECT_EQ(sampler.info().gpus[1].memory_total_bytes, uint64_t{80} << 30);
    const MachineSample sample = sampler.sample();
    ASSERT_EQ(sample.gpus.size(), 2u);
    EXPECT_EQ(sample.gpus[0].utilization, 0.37);
    EXPECT_EQ(sample.gpus[0].memory_used_bytes, uint64_t{1} << 30);
    EXPECT_EQ(sample.gpus[0].memory_total_bytes, uint64_t{80} << 30);
    EXPECT_EQ(sample.gpus[0].power_w, 123.5);
    EXPECT_EQ(sample.gpus[0].temperature_c, 41);
    EXPECT_EQ(sample.gpus[1].memory_used_bytes, uint64_t{2} << 30);
    EXPECT_FALSE(sample.gpus[1].utilization) << "absent, not 0";
    EXPECT_FALSE(sample.gpus[1].power_w);
    EXPECT_EQ(sample.gpus[1].temperature_c, 41);
  }
  void* const library = dlopen("libnvidia-ml.so.1", RTLD_NOW | RTLD_LOCAL);
  ASSERT_NE(library, nullptr) << dlerror();
  const auto users = reinterpret_cast<int (*)()>(dlsym(library, "fake_nvml_users"));
  ASSERT_NE(users, nullptr);
  EXPECT_EQ(users(), 0) << "shut down with the sampler";
  dlclose(library);
}

}  // namespace
}  // namespace pagemill
