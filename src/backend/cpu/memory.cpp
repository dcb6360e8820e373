#include "backend/cpu/memory.h"

#include <sys/mman.h>

#include <cerrno>
#include <cstring>

#include <fmt/format.h>

#include "base/machine.h"

namespace pagemill {
namespace {

// Below this a look at /proc costs more than the memory is worth.
constexpr size_t kCheckedBytes = 4u << 20;
constexpr size_t kHugePage = 2u << 20;

double mebibytes(size_t bytes) { return static_cast<double>(bytes) / (1u << 20); }

}  // namespace

Result<std::unique_ptr<HostBuffer>> HostBuffer::make(size_t bytes, std::string_view purpose) {
  if (bytes >= kCheckedBytes) {
    const size_t free_bytes = available_memory_bytes();
    if (bytes > free_bytes)
      return fail(ErrorCode::out_of_memory, fmt::format("{} needs {:.0f} MiB of memory and {:.0f} MiB are free", purpose,
                                                        mebibytes(bytes), mebibytes(free_bytes)));
  }
  if (bytes == 0) return std::unique_ptr<HostBuffer>(new HostBuffer(nullptr, 0, nullptr, 0));
  // Large buffers begin at a huge page and ask for them: a step walks through all of its weights, and every 4 KiB page would be a
  // miss of the TLB.
  const size_t slack = bytes >= kCheckedBytes ? kHugePage : 0;
  void* mapped = mmap(nullptr, bytes + slack, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapped == MAP_FAILED)
    return fail(ErrorCode::out_of_memory,
                fmt::format("{}: the system refused {:.0f} MiB of memory ({})", purpose, mebibytes(bytes), std::strerror(errno)));
  auto* data = static_cast<std::byte*>(mapped);
  if (slack != 0) {
    data += (kHugePage - reinterpret_cast<uintptr_t>(data) % kHugePage) % kHugePage;
    madvise(data, bytes / kHugePage * kHugePage, MADV_HUGEPAGE);  // where the system has none, it stays as it is
  }
  return std::unique_ptr<HostBuffer>(new HostBuffer(data, bytes, mapped, bytes + slack));
}

HostBuffer::~HostBuffer() {
  if (mapped_ != nullptr) munmap(mapped_, mapped_bytes_);
}

}  // namespace pagemill
