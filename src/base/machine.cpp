#include "base/machine.h"

#include <sched.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <fstream>
#include <limits>
#include <optional>
#include <sstream>
#include <string>
#include <vector>

namespace pagemill {
namespace {

std::optional<uint64_t> parse_unsigned(const std::string& text) {
  uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end == text.data()) return std::nullopt;
  return value;
}

std::string first_line(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

std::optional<uint64_t> number_in(const std::string& path) { return parse_unsigned(first_line(path)); }

/// The value of a line "name   123 …" or "name: 123 kB".
std::optional<uint64_t> field_in(const std::string& path, const std::string& name) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    std::istringstream words(line);
    std::string key, value;
    if (words >> key >> value && key == name) return parse_unsigned(value);
  }
  return std::nullopt;
}

/// The folders of this process's cgroup and of all above it, for v2 ("" as controller) or one v1 controller.
std::vector<std::string> cgroup_folders(const std::string& root, const std::string& controller) {
  std::string path;
  std::ifstream file(root + "/proc/self/cgroup");
  bool found = false;
  for (std::string line; !found && std::getline(file, line);) {
    const size_t first = line.find(':'), second = line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = "," + line.substr(first + 1, second - first - 1) + ",";
    found = controller.empty() ? controllers == ",," : controllers.find("," + controller + ",") != std::string::npos;
    if (found) path = line.substr(second + 1);
  }
  std::vector<std::string> folders;
  if (!found) return folders;
  const std::string base = root + "/sys/fs/cgroup" + (controller.empty() ? "" : "/" + controller);
  // Inside a container the path may be the host's: what does not exist reads as no limit, and the root is always tried.
  while (!path.empty() && path != "/") {
    folders.push_back(base + path);
    path.resize(path.rfind('/'));
  }
  folders.push_back(base);
  return folders;
}

struct MemoryFiles {
  const char *controller, *limit, *usage, *cache[2];
};
constexpr MemoryFiles kMemoryFiles[] = {
    {"", "/memory.max", "/memory.current", {"inactive_file", "active_file"}},
    {"memory", "/memory.limit_in_bytes", "/memory.usage_in_bytes", {"total_inactive_file", "total_active_file"}},
};

}  // namespace

namespace detail {

double cpu_quota(const std::string& root) {
  double quota = std::numeric_limits<double>::infinity();
  for (const std::string& folder : cgroup_folders(root, "")) {
    std::istringstream words(first_line(folder + "/cpu.max"));
    double budget_us = 0, period_us = 0;
    if (words >> budget_us >> period_us && budget_us > 0 && period_us > 0) quota = std::min(quota, budget_us / period_us);
  }
  for (const std::string& folder : cgroup_folders(root, "cpu")) {
    const auto budget_us = number_in(folder + "/cpu.cfs_quota_us");  // -1 = none, which does not parse
    const auto period_us = number_in(folder + "/cpu.cfs_period_us");
    if (budget_us && period_us && *budget_us > 0 && *period_us > 0)
      quota = std::min(quota, static_cast<double>(*budget_us) / static_cast<double>(*period_us));
  }
  return std::isinf(quota) ? 0 : quota;
}

MemoryBytes memory_bytes(const std::string& root) {
  const std::string meminfo = root + "/proc/meminfo";
  MemoryBytes memory;
  memory.total = field_in(meminfo, "MemTotal:").value_or(0) * 1024;
  memory.available = field_in(meminfo, "MemAvailable:").value_or(0) * 1024;
  for (const MemoryFiles& files : kMemoryFiles) {
    for (const std::string& folder : cgroup_folders(root, files.controller)) {
      const auto limit = number_in(folder + files.limit);
      if (!limit) continue;
      memory.total = std::min(memory.total, *limit);
      const uint64_t used = number_in(folder + files.usage).value_or(0);
      uint64_t cache = 0;
      for (const char* field : files.cache) cache += field_in(folder + "/memory.stat", field).value_or(0);
      const uint64_t held = used > cache ? used - cache : 0;
      memory.available = std::min<uint64_t>(memory.available, *limit > held ? *limit - held : 0);
    }
  }
  return memory;
}

}  // namespace detail

int usable_threads() {
  int threads = 1;
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof set, &set) == 0) threads = std::max(1, CPU_COUNT(&set));
  const double quota = detail::cpu_quota("");
  if (quota > 0) threads = std::min(threads, std::max(1, static_cast<int>(std::ceil(quota))));
  return threads;
}

uint64_t available_memory_bytes() { return detail::memory_bytes("").available; }

uint64_t total_memory_bytes() { return detail::memory_bytes("").total; }

}  // namespace pagemill
