// What this process may use of the machine: processors and memory, after affinity and control groups.
#pragma once

#include <cstdint>

namespace pagemill {

/// Threads that can run at once: the processors of the affinity mask, and no more than the cgroup's CPU quota rounded up. At least 1.
int usable_threads();

/// Bytes that this process may still take without pushing others out: what the kernel calls available, and no more than
/// what every cgroup above this process leaves. 0 where the kernel does not say.
uint64_t available_memory_bytes();

}  // namespace pagemill
