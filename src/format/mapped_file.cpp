#include "format/mapped_file.h"

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <cstring>
#include <mutex>
#include <optional>
#include <utility>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fmt/format.h>

#include "base/check.h"

namespace pagemill {
namespace {

// What the signal handler knows of a mapping. `begin` is set last and cleared first: 0 means the place is free.
struct Guard {
  std::atomic<uintptr_t> begin{0};
  std::atomic<size_t> size{0};
  std::atomic<bool> damaged{false};
};

constexpr size_t kGuards = 4'096;  // several models of limits::kGgufSplits parts each
Guard guards[kGuards];
std::mutex guards_mutex;  // for taking a place; the handler never locks
struct sigaction previous_action;
uintptr_t page_bytes;

// Async-signal-safe: atomics and one mmap system call. Replaces everything from the missing page on: what lies behind
// a page past the end of the file is past the end too.
bool repair(uintptr_t address) {
  for (Guard& guard : guards) {
    const uintptr_t begin = guard.begin.load(std::memory_order_acquire);
    const size_t size = guard.size.load(std::memory_order_relaxed);
    if (begin == 0 || address < begin || address - begin >= size) continue;
    // The place may have been given back and taken again between the two reads: then size belongs to another mapping.
    std::atomic_thread_fence(std::memory_order_acquire);
    if (guard.begin.load(std::memory_order_relaxed) != begin) continue;
    const uintptr_t page = address & ~(page_bytes - 1);
    guard.damaged.store(true, std::memory_order_release);
    return mmap(reinterpret_cast<void*>(page), begin + size - page, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) !=
           MAP_FAILED;
  }
  return false;
}

void on_sigbus(int signal, siginfo_t* info, void* context) {
  const int saved_errno = errno;
  const bool repaired = repair(reinterpret_cast<uintptr_t>(info->si_addr));
  errno = saved_errno;
  if (repaired) return;
  if (previous_action.sa_flags & SA_SIGINFO) {
    previous_action.sa_sigaction(signal, info, context);
  } else if (previous_action.sa_handler != SIG_DFL && previous_action.sa_handler != SIG_IGN) {
    previous_action.sa_handler(signal);
  } else {
    // Returning repeats the faulting access, which now ends the process the way it would have without us.
    sigaction(signal, &previous_action, nullptr);
  }
}

Result<void> install_handler() {
  static const int error = [] {
    page_bytes = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
    struct sigaction action {};
    action.sa_sigaction = on_sigbus;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    sigemptyset(&action.sa_mask);
    return sigaction(SIGBUS, &action, &previous_action) == 0 ? 0 : errno;
  }();
  if (error != 0) return fail(ErrorCode::io, fmt::format("cannot install a SIGBUS handler: {}", std::strerror(error)));
  return {};
}

std::optional<size_t> take_guard(std::span<const std::byte> bytes) {
  const std::lock_guard lock(guards_mutex);
  for (size_t i = 0; i < kGuards; ++i) {
    if (guards[i].begin.load(std::memory_order_relaxed) != 0) continue;
    guards[i].size.store(bytes.size(), std::memory_order_relaxed);
    guards[i].damaged.store(false, std::memory_order_relaxed);
    guards[i].begin.store(reinterpret_cast<uintptr_t>(bytes.data()), std::memory_order_release);
    return i;
  }
  return std::nullopt;
}

tl::unexpected<Error> refused(const std::string& name, const char* action) {
  const int error = errno;
  const ErrorCode code = error == ENOENT ? ErrorCode::not_found : error == EACCES ? ErrorCode::permission_denied : ErrorCode::io;
  return fail(code, fmt::format("{}: cannot {}: {}", name, action, std::strerror(error)));
}

struct Descriptor {
  int value = -1;
  ~Descriptor() {
    if (value >= 0) close(value);
  }
  int release() { return std::exchange(value, -1); }
};

}  // namespace

Result<std::unique_ptr<MappedFile>> MappedFile::open(const std::filesystem::path& path) {
  PM_TRY(install_handler());
  std::string name = path.string();
  // O_NONBLOCK: opening a FIFO must not wait for a writer.
  Descriptor descriptor{::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)};
  if (descriptor.value < 0) return refused(name, "open it");
  struct stat status {};
  if (fstat(descriptor.value, &status) != 0) return refused(name, "examine it");
  if (!S_ISREG(status.st_mode)) return fail(ErrorCode::invalid_file, fmt::format("{}: is not a regular file", name));
  if (status.st_size == 0) return fail(ErrorCode::invalid_file, fmt::format("{}: the file is empty", name));

  const auto size = static_cast<size_t>(status.st_size);
  void* address = mmap(nullptr, size, PROT_READ, MAP_PRIVATE, descriptor.value, 0);
  if (address == MAP_FAILED) return refused(name, "map it");
  const std::span bytes(static_cast<const std::byte*>(address), size);
  const std::optional<size_t> guard = take_guard(bytes);
  if (!guard) {
    munmap(address, size);
    return fail(ErrorCode::resource_exhausted, fmt::format("{}: more than {} model files are open", name, kGuards));
  }
  return std::unique_ptr<MappedFile>(new MappedFile(std::move(name), descriptor.release(), bytes, *guard));
}

MappedFile::MappedFile(std::string name, int descriptor, std::span<const std::byte> bytes, size_t guard)
    : name_(std::move(name)), descriptor_(descriptor), bytes_(bytes), guard_(guard) {}

MappedFile::~MappedFile() {
  // Before munmap: afterwards the addresses may belong to somebody else.
  guards[guard_].begin.store(0, std::memory_order_release);
  const int result = munmap(const_cast<std::byte*>(bytes_.data()), bytes_.size());
  PM_CHECK(result == 0, "munmap: {}", std::strerror(errno));
  close(descriptor_);
}

bool MappedFile::read(const std::byte* from, std::span<std::byte> to) const {
  auto offset = static_cast<off_t>(from - bytes_.data());
  while (!to.empty()) {
    const ssize_t count = pread(descriptor_, to.data(), to.size(), offset);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return false;
    to = to.subspan(static_cast<size_t>(count));
    offset += count;
  }
  return true;
}

Result<void> MappedFile::check_intact() const {
  if (guards[guard_].damaged.load(std::memory_order_acquire))
    return fail(ErrorCode::io, fmt::format("{}: the file was truncated or became unreadable while in use; load the model again", name_));
  struct stat status {};
  if (fstat(descriptor_, &status) != 0 || static_cast<size_t>(status.st_size) < bytes_.size())
    return fail(ErrorCode::io, fmt::format("{}: the file was truncated while in use; load the model again", name_));
  return {};
}

}  // namespace pagemill
