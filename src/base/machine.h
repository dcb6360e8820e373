// What this process may use of the machine: processors and memory, after affinity and control groups (v1 and v2).
#pragma once

#include <cstdint>
#include <string>

namespace pagemill {

/// Threads that can run at once: the processors of the affinity mask, and no more than the cgroup's CPU quota rounded up. At least 1.
int usable_threads();

/// Bytes that this process may still take without pushing others out: what the kernel calls available, and no more than
/// what every cgroup above this process leaves (file cache counts as free). 0 where the kernel does not say.
uint64_t available_memory_bytes();

/// The smaller of the machine's memory and every cgroup's limit. 0 where the kernel does not say.
uint64_t total_memory_bytes();

namespace detail {

struct MemoryBytes {
  uint64_t total = 0;
  uint64_t available = 0;
};

/// The functions above for another root, which holds proc/ and sys/ as / does: for tests.
MemoryBytes memory_bytes(const std::string& root);
double cpu_quota(const std::string& root);  // processors; 0 = no limit

}  // namespace detail
}  // namespace pagemill
