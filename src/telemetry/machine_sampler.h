// MachineSampler: how busy this machine is: processors and memory from /proc, NVIDIA GPUs through NVML where its library is there.
//
// Not thread-safe, but for info(). A figure that the system does not give is absent, never 0.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace pagemill {

struct GpuInfo {
  int index = 0;
  std::string name;
  uint64_t memory_total_bytes = 0;
};
struct GpuSample {
  int index = 0;
  std::optional<double> utilization;     // 0 … 1: share of the last interval in which a kernel ran
  uint64_t memory_used_bytes = 0, memory_total_bytes = 0;
  std::optional<double> power_w, temperature_c;
};
struct MachineInfo {
  std::string cpu_name;
  int cpu_threads = 0;                   // that this process may use
  uint64_t memory_total_bytes = 0;
  std::vector<GpuInfo> gpus;
};
struct MachineSample {
  double cpu_utilization = 0;            // 0 … 1 of all processors since the sample before; 0 in the first
  uint64_t memory_used_bytes = 0, memory_total_bytes = 0;  // of the machine; used = total - available
  uint64_t process_rss_bytes = 0;
  std::vector<GpuSample> gpus;
};

class Nvml;

class MachineSampler {
 public:
  /// `root` holds proc/: "/" but for tests.
  explicit MachineSampler(std::string root = "/");
  ~MachineSampler();
  const MachineInfo& info() const { return info_; }
  MachineSample sample();

 private:
  struct CpuTimes {
    uint64_t busy = 0, total = 0;
  };
  std::optional<CpuTimes> cpu_times() const;

  const std::string root_;
  std::unique_ptr<Nvml> nvml_;           // null where there is no NVIDIA driver
  MachineInfo info_;
  std::optional<CpuTimes> before_;
};

}  // namespace pagemill
