#include "telemetry/machine_sampler.h"

#include <fstream>
#include <sstream>

#include "base/machine.h"
#include "telemetry/nvml.h"

namespace pagemill {
namespace {

/// "MemTotal:  16 kB" → bytes.
uint64_t kilobytes_of(const std::string& path, std::string_view key) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    if (!line.starts_with(key)) continue;
    std::istringstream words(line.substr(key.size()));
    uint64_t value = 0;
    return words >> value ? value * 1024 : 0;
  }
  return 0;
}

std::string cpu_name(const std::string& path) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);)
    if (const size_t colon = line.find(':'); line.starts_with("model name") && colon != std::string::npos && colon + 2 <= line.size()) return line.substr(colon + 2);
  return {};
}

}  // namespace

MachineSampler::MachineSampler(std::string root) : root_(std::move(root)), nvml_(Nvml::open()) {
  info_.cpu_name = cpu_name(root_ + "proc/cpuinfo");
  info_.cpu_threads = usable_threads();
  info_.memory_total_bytes = kilobytes_of(root_ + "proc/meminfo", "MemTotal:");
  if (nvml_) info_.gpus = nvml_->infos();
}

MachineSampler::~MachineSampler() = default;

/// The first line of /proc/stat: user nice system idle iowait irq softirq steal (guest is part of user).
std::optional<MachineSampler::CpuTimes> MachineSampler::cpu_times() const {
  std::ifstream file(root_ + "proc/stat");
  std::string word;
  if (!(file >> word) || word != "cpu") return std::nullopt;
  CpuTimes times;
  uint64_t value = 0;
  for (int i = 0; i < 8 && file >> value; ++i) {
    times.total += value;
    if (i != 3 && i != 4) times.busy += value;
  }
  return times;
}

MachineSample MachineSampler::sample() {
  MachineSample sample;
  const auto now = cpu_times();
  if (now && before_ && now->total > before_->total) sample.cpu_utilization = static_cast<double>(now->busy - before_->busy) / static_cast<double>(now->total - before_->total);
  before_ = now;
  sample.memory_total_bytes = info_.memory_total_bytes;
  const uint64_t available = kilobytes_of(root_ + "proc/meminfo", "MemAvailable:");
  sample.memory_used_bytes = sample.memory_total_bytes > available ? sample.memory_total_bytes - available : 0;
  sample.process_rss_bytes = kilobytes_of(root_ + "proc/self/status", "VmRSS:");
  if (nvml_) sample.gpus = nvml_->samples();
  return sample;
}

}  // namespace pagemill
