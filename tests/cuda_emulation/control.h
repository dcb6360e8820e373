// What tests tell the emulated device and ask it: its memory, its failures, the order of its threads, its counters.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "include/emulated_runtime.h"

namespace emulated {

struct DeviceOptions {
  size_t memory_bytes = size_t{4} << 30;  // cudaMalloc fails beyond it
  size_t context_bytes = 0;               // taken from the start, as a real context is
  int major = 8, minor = 0;
  int multiprocessors = 4;                // few, so that persistent kernels loop
  size_t shared_bytes_max = 99 * 1024;    // of a block: the least of the architectures that we build for
  bool present = true;                    // false: no device is there
  int driver = 13000;                     // cudaDriverGetVersion
};
/// Everything anew: options, counters, failures. Nothing may be allocated any more.
void reset_device(const DeviceOptions& options = {});

/// Whether AddressSanitizer watches this build's device: every allocation, and every shared variable of a block, is a heap block of its own.
bool address_sanitized();

/// Draws the order of blocks and of threads between barriers; 0 = ascending.
void set_thread_order(uint64_t seed);

/// The n-th call of the runtime from now on (0 = the next) fails with this error; with a sticky one (anything but a failed
/// allocation) so does every later call, and nothing enqueued runs any more. Counts go on either way.
void fail_call(uint64_t n, cudaError_t error);
/// Calls so far since reset_device or the last clear_calls().
uint64_t calls();
void clear_calls();
/// Ends an injected failure.
void mend();

/// What the last failed kernel did wrong; empty = none has failed.
std::string last_fault();
/// Device bytes and pinned host bytes allocated now, and how many streams, events and graphs there are.
struct Held {
  size_t device_bytes = 0, pinned_bytes = 0;
  int allocations = 0, streams = 0, events = 0, graphs = 0;
  bool operator==(const Held&) const = default;
};
Held held();
/// The most device bytes that were ever allocated together.
size_t device_bytes_peak();

/// Counts accesses through the counted helpers (ptx.h), for kernels run while it lives.
struct Traffic {
  uint64_t global_read_sectors = 0, global_write_sectors = 0;  // of 32 bytes, per warp access
  uint64_t shared_accesses = 0;                                // passes that bank-free reads and stores would take
  uint64_t shared_conflicts = 0;                               // passes on top of those
  uint64_t copied_accesses = 0, copied_conflicts = 0;          // likewise of what cp.async puts there, which no instruction waits for
  uint64_t global_read_bytes = 0;                              // asked for
  // What must come from memory, of the sectors read: every one in a large() range, however often, and each other one once (it then
  // lies in L2: queries, tables, sums).
  uint64_t large_read_sectors = 0, small_distinct_sectors = 0;
  uint64_t memory_read_sectors() const { return large_read_sectors + small_distinct_sectors; }
  double copied_conflict_share() const { return copied_accesses ? static_cast<double>(copied_conflicts) / static_cast<double>(copied_accesses) : 0; }
  double conflict_share() const { return shared_accesses ? static_cast<double>(shared_conflicts) / static_cast<double>(shared_accesses) : 0; }
};
class TrafficCounter {
 public:
  TrafficCounter();
  ~TrafficCounter();
  TrafficCounter(const TrafficCounter&) = delete;
  TrafficCounter& operator=(const TrafficCounter&) = delete;
  /// Weights, keys and values: too large for L2 to keep in a real model, so that reading them twice costs twice.
  void large(const void* begin, size_t bytes);
  Traffic read() const;
  void clear();
};

/// Since the last clear_calls().
uint64_t kernels_run();
uint64_t graphs_launched();

}  // namespace emulated
