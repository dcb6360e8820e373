// Between the files of the emulated device.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "emulated_block.h"

namespace emulated {

/// What one thread accessed in a block, by place and by how often it has been there since its last barrier or warp operation:
/// lanes' accesses with the same of both are one access of the warp.
struct AccessLog {
  struct Entry {
    Place place;
    uint32_t epoch, turn;
    Access kind;
    uint8_t bytes;
    uint64_t address;
  };
  uint32_t epoch = 0;
  std::vector<Entry> entries;
  void clear() {
    epoch = 0;
    entries.clear();
  }
  void add(Access kind, const void* address, int bytes, Place place);
};

/// Enqueues work of a library, as a kernel is.
cudaError_t enqueue_host(std::function<void()> work, cudaStream_t stream);

struct Thread;
AccessLog& log_of(Thread* threads, int id);
void account_block(Thread* threads, int count);
void set_order_seed(uint64_t seed);
size_t shared_bytes_max();

}  // namespace emulated
