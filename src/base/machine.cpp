#include "base/machine.h"

#include <sched.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <optional>
#include <string>
#include <thread>

namespace pagemill {
namespace {

namespace fs = std::filesystem;

std::optional<std::string> first_line(const fs::path& path) {
  std::ifstream file(path);
  std::string line;
  if (!std::getline(file, line)) return std::nullopt;
  return line;
}

/// A decimal number at the start of `text`; nothing for cgroup's "max".
std::optional<uint64_t> leading_number(std::string_view text) {
  uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{}) return std::nullopt;
  return value;
}

std::optional<uint64_t> number_in(const fs::path& path) {
  const auto line = first_line(path);
  return line ? leading_number(*line) : std::nullopt;
}

/// Calls `visit` with the cgroup v2 folder of this process and with each folder above it: a limit anywhere binds.
template <class Visit>
void visit_cgroups(Visit visit) {
  const fs::path root = "/sys/fs/cgroup";
  std::ifstream file("/proc/self/cgroup");
  for (std::string line; std::getline(file, line);) {
    if (!line.starts_with("0::/")) continue;
    for (fs::path folder = root / line.substr(4);; folder = folder.parent_path()) {
      visit(folder);
      if (folder == root || folder.string().size() <= root.string().size()) break;
    }
    return;
  }
}

/// "QUOTA PERIOD" in microseconds, or "max PERIOD".
std::optional<double> quota_in(const fs::path& folder) {
  const auto line = first_line(folder / "cpu.max");
  if (!line) return std::nullopt;
  const auto quota = leading_number(*line);
  const auto space = line->find(' ');
  if (!quota || space == std::string::npos) return std::nullopt;
  const auto period = leading_number(std::string_view(*line).substr(space + 1));
  if (!period || *period == 0) return std::nullopt;
  return static_cast<double>(*quota) / static_cast<double>(*period);
}

std::optional<uint64_t> kernel_available_bytes() {
  std::ifstream file("/proc/meminfo");
  for (std::string line; std::getline(file, line);) {
    if (!line.starts_with("MemAvailable:")) continue;
    const auto digit = line.find_first_of("0123456789");
    if (digit == std::string::npos) return std::nullopt;
    const auto kib = leading_number(std::string_view(line).substr(digit));
    return kib ? std::optional(*kib * 1024) : std::nullopt;
  }
  return std::nullopt;
}

}  // namespace

int usable_threads() {
  cpu_set_t mask;
  CPU_ZERO(&mask);
  int threads = sched_getaffinity(0, sizeof mask, &mask) == 0 ? CPU_COUNT(&mask) : static_cast<int>(std::thread::hardware_concurrency());
  visit_cgroups([&](const fs::path& folder) {
    if (const auto quota = quota_in(folder)) threads = std::min(threads, static_cast<int>(std::ceil(*quota)));
  });
  return std::max(threads, 1);
}

uint64_t available_memory_bytes() {
  std::optional<uint64_t> available = kernel_available_bytes();
  visit_cgroups([&](const fs::path& folder) {
    const auto limit = number_in(folder / "memory.max");
    const auto used = number_in(folder / "memory.current");
    if (!limit || !used) return;
    const uint64_t left = *limit > *used ? *limit - *used : 0;
    available = std::min(available.value_or(left), left);
  });
  return available.value_or(0);
}

}  // namespace pagemill
