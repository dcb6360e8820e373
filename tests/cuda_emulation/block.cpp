#include "emulated_block.h"

#include <boost/context/detail/fcontext.hpp>
#include <sys/mman.h>

#include <bit>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "base/check.h"
#include "control.h"
#include "executor.h"

#ifdef __has_feature  // clang
#define PM_CLANG_ASAN __has_feature(address_sanitizer)
#else
#define PM_CLANG_ASAN 0
#endif
#if defined(__SANITIZE_ADDRESS__) || PM_CLANG_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#define PM_ASAN 1
#else
#define PM_ASAN 0
#endif

#if PM_ASAN
/// A fake stack per fiber and block, mapped and unmapped, takes many times what the kernels do; addresses of locals that outlive their
/// function are not what a kernel gets wrong.
extern "C" const char* __asan_default_options() { return "detect_stack_use_after_return=0"; }
#endif

namespace emulated {

namespace context = boost::context::detail;

constexpr size_t kStackBytes = PM_ASAN ? 320 * 1024 : 192 * 1024;
constexpr int kBarriers = 16;

thread_local bool counting = false;

namespace {

uint64_t order_seed = 0;

}  // namespace

void set_order_seed(uint64_t seed) { order_seed = seed; }
bool address_sanitized() { return PM_ASAN; }

struct Thread {
  context::fcontext_t context = nullptr;
  uint3 index{};
  int id = 0;
  bool returned = false;
  const char* waits_for = nullptr;  // while it waits, for the report of a deadlock
  Place waits_at{"", 0};
  void* stack = nullptr;            // lowest address
  void* fake_stack = nullptr;       // AddressSanitizer's
  // cp.async
  struct Copy {
    void* to;
    const void* from;
    int bytes, zero_from;
  };
  std::vector<Copy> copies;         // in order of issue
  std::vector<size_t> groups;       // ends of committed groups in `copies`
  AccessLog log;
};

struct WarpCall {
  WarpCall(unsigned lanes, WarpOperation operation) : mask(lanes), complete(operation) {}
  unsigned mask, arrived = 0;
  WarpOperation complete;
  void* arguments[32];  // of the lanes that have arrived
};

struct Barrier {
  int arrived = 0, expected = 0;
  Place place{"", 0};
  std::vector<Thread*> waiting;
  int predicate = 0;
};

struct SharedVariable {
  const void* key;
  std::unique_ptr<std::byte, decltype(&std::free)> memory;
  size_t bytes;
  uint64_t block;  // number of the block it was last poisoned for
};

/// Runs blocks, one at a time, on one OS thread.
struct Executor {
  std::vector<Thread> threads;
  std::vector<std::vector<WarpCall>> warps;  // calls that wait for lanes
  std::vector<unsigned> live;                // per warp
  Barrier barriers[kBarriers];
  std::vector<Thread*> ready;                // who may run; the next is the last
  Thread main;                               // the OS thread's own stack
  const void* main_stack = nullptr;
  size_t main_stack_bytes = 0;
  Thread* current = nullptr;
  const KernelLaunch* launch = nullptr;
  int count = 0, returned = 0;
  uint64_t block_number = 0;
  std::vector<SharedVariable> shared;
  size_t shared_bytes = 0;                   // of this block
  void* dynamic = nullptr;
  size_t dynamic_bytes = 0;
  std::string fault;
  uint64_t random = 0;
  bool shuffled = false;
  std::vector<Thread*> lanes_released;       // by the warp operation that has just been completed
  std::vector<void*> stacks;

  ~Executor() {
    for (void* stack : stacks) munmap(stack, kStackBytes);
    std::free(dynamic);
  }
  /// [0, bound), by SplitMix64's steps.
  uint32_t draw(uint64_t bound) {
    uint64_t z = random += 0x9E3779B97F4A7C15;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
    return static_cast<uint32_t>(((z >> 32) * bound) >> 32);
  }
  void switch_to(Thread& next);
  [[noreturn]] void leave();
  void wait(const char* what, Place place);
  void make_ready(std::vector<Thread*>& released);
  void run_block(uint3 index);
  void describe_deadlock();
};

namespace {

/// This OS thread's, from its first kernel on: a plain pointer, for everything below asks for it.
constinit thread_local Executor* executor = nullptr;

Executor& executor_of_thread() {
  static thread_local Executor own;
  executor = &own;
  return own;
}

void begin_switch([[maybe_unused]] Thread* from, [[maybe_unused]] Thread& to, [[maybe_unused]] bool ends) {
#if PM_ASAN
  const bool to_main = &to == &executor->main;
  __sanitizer_start_switch_fiber(ends ? nullptr : &from->fake_stack, to_main ? executor->main_stack : to.stack,
                                 to_main ? executor->main_stack_bytes : kStackBytes);
#endif
}

void end_switch([[maybe_unused]] Thread* self, [[maybe_unused]] bool from_main) {
#if PM_ASAN
  const void* bottom = nullptr;
  size_t size = 0;
  __sanitizer_finish_switch_fiber(self ? self->fake_stack : nullptr, &bottom, &size);
  if (from_main) {
    executor->main_stack = bottom;
    executor->main_stack_bytes = size;
  }
#endif
}

void entry(context::transfer_t transfer) {
  Executor& e = *executor;
  Thread* const from = static_cast<Thread*>(transfer.data);
  end_switch(nullptr, from == &e.main);
  from->context = transfer.fctx;
  e.launch->thread();
  e.leave();
}

}  // namespace

void Executor::switch_to(Thread& next) {
  Thread& self = *current;
  current = &next;
  threadIdx = next.index;
  begin_switch(&self, next, false);
  const context::transfer_t transfer = context::jump_fcontext(next.context, &self);
  end_switch(&self, false);
  static_cast<Thread*>(transfer.data)->context = transfer.fctx;
}

/// The current thread returns.
void Executor::leave() {
  Thread& self = *current;
  self.returned = true;
  ++returned;
  live[static_cast<size_t>(self.id / 32)] &= ~(1u << (self.id % 32));
  Thread* next = &main;
  if (!ready.empty()) {
    next = ready.back();
    ready.pop_back();
  }
  current = next;
  threadIdx = next->index;
  begin_switch(nullptr, *next, true);
  context::jump_fcontext(next->context, &self);
  std::abort();
}

void Executor::wait(const char* what, Place place) {
  Thread& self = *current;
  self.waits_for = what;
  self.waits_at = place;
  if (ready.empty()) {
    switch_to(main);  // a deadlock: main reports it
  } else {
    Thread* next = ready.back();
    ready.pop_back();
    switch_to(*next);
  }
  self.waits_for = nullptr;
}

void Executor::make_ready(std::vector<Thread*>& released) {
  const size_t first = ready.size();
  ready.insert(ready.end(), released.rbegin(), released.rend());
  if (!shuffled) return;
  for (size_t i = ready.size(); i-- > first + 1;) std::swap(ready[i], ready[first + draw(i - first + 1)]);
}

void Executor::describe_deadlock() {
  if (!fault.empty()) return;
  const Thread* first = nullptr;
  std::string others;
  int waiting = 0;
  for (int i = 0; i < count; ++i) {
    const Thread& thread = threads[static_cast<size_t>(i)];
    if (!thread.waits_for) continue;
    ++waiting;
    if (!first) first = &thread;
    if (!(thread.waits_at == first->waits_at) && others.empty())
      others = std::string("; thread ") + std::to_string(i) + " at " + thread.waits_for + ", " + thread.waits_at.file + ":" + std::to_string(thread.waits_at.line);
  }
  if (!first) return;
  fault = "divergence: thread " + std::to_string(first->id) + " waits at " + first->waits_for + ", " + first->waits_at.file + ":" +
          std::to_string(first->waits_at.line) + others + "; " + std::to_string(waiting) + " of " + std::to_string(count) + " threads wait, " +
          std::to_string(returned) + " have returned";
}

void Executor::run_block(uint3 index) {
  blockIdx = index;
  ++block_number;
  returned = 0;
  shared_bytes = launch->dynamic_shared_bytes;
  if (dynamic_bytes) std::memset(dynamic, 0xFF, dynamic_bytes);
  for (Barrier& barrier : barriers) {
    barrier.arrived = barrier.predicate = 0;
    barrier.waiting.clear();
  }
  const dim3 shape = blockDim;
  ready.clear();
  for (int i = 0; i < count; ++i) {
    Thread& thread = threads[static_cast<size_t>(i)];
    const auto id = static_cast<unsigned>(i);
    thread.index = {id % shape.x, id / shape.x % shape.y, id / (shape.x * shape.y)};
    thread.id = i;
    thread.returned = false;
    thread.waits_for = nullptr;
    thread.copies.clear();
    thread.groups.clear();
    thread.log.clear();
    thread.stack = stacks[static_cast<size_t>(i)];
    // Tops at one and the same offset would all lie in the same few cache sets.
    const size_t skipped = id % 128 * 320;
#if PM_ASAN
    // The two outermost frames of the thread before, which never returned. (All of the stack would be 40 KB of shadow per thread and block.)
    constexpr size_t kOutermostBytes = 8 * 1024;
    __asan_unpoison_memory_region(static_cast<std::byte*>(thread.stack) + kStackBytes - skipped - kOutermostBytes, kOutermostBytes);
#endif
    thread.context = context::make_fcontext(static_cast<std::byte*>(thread.stack) + kStackBytes - skipped, kStackBytes - skipped, entry);
    ready.push_back(&thread);
  }
  for (size_t w = 0; w < warps.size(); ++w) {
    warps[w].clear();
    const int lanes = std::min(32, count - static_cast<int>(w) * 32);
    live[w] = lanes == 32 ? 0xffffffffu : (1u << lanes) - 1;
  }
  std::vector<Thread*> all;
  all.swap(ready);
  make_ready(all);
  Thread* next = ready.back();
  ready.pop_back();
  current = &main;
  switch_to(*next);
  if (fault.empty() && returned < count) describe_deadlock();
  if (!fault.empty()) return;
  if (counting) account_block(threads.data(), count);
}

// --- What kernels call --------------------------------------------------------------------------------------------------

void fault(Place place, const char* what) {
  Executor& e = *executor;
  if (e.fault.empty()) {
    e.fault = std::string(what) + ": block (" + std::to_string(blockIdx.x) + ", " + std::to_string(blockIdx.y) + ", " + std::to_string(blockIdx.z) +
              "), thread " + std::to_string(e.current->id) + ", " + place.file + ":" + std::to_string(place.line);
  }
  // Its stack and the others' are left as they are.
  Thread& self = *e.current;
  e.current = &e.main;
  begin_switch(&self, e.main, true);
  context::jump_fcontext(e.main.context, &self);
  std::abort();
}

int block_threads() { return executor->count; }
int lane() { return executor->current->id % 32; }
int warp() { return executor->current->id / 32; }
unsigned live_lanes() { return executor->live[static_cast<size_t>(warp())]; }

namespace {

/// True for the one that completes it.
bool arrive(Barrier& barrier, int threads, bool same_place, Place place) {
  if (barrier.arrived == 0) {
    barrier.expected = threads;
    barrier.place = place;
  } else if (barrier.expected != threads) {
    fault(place, "threads come to one barrier with different counts");
  } else if (same_place && !(barrier.place == place)) {
    fault(place, "__syncthreads in different places of a block meet: the block has diverged");
  }
  if (++barrier.arrived < barrier.expected) return false;
  barrier.arrived = 0;
  return true;
}

void release(Barrier& barrier) {
  executor->make_ready(barrier.waiting);
  barrier.waiting.clear();
}

}  // namespace

void barrier_sync(int id, int threads, bool same_place, Place place) {
  Executor& e = *executor;
  if (id < 0 || id >= kBarriers) fault(place, "there are barriers 0 to 15");
  if (threads % 32 != 0 && threads != e.count) fault(place, "a barrier's count must be a multiple of 32");
  Barrier& barrier = e.barriers[id];
  ++e.current->log.epoch;
  if (arrive(barrier, threads, same_place, place)) return release(barrier);
  barrier.waiting.push_back(e.current);
  e.wait(id == 0 ? "__syncthreads" : "a named barrier", place);
}

void barrier_arrive(int id, int threads, Place place) {
  if (id < 0 || id >= kBarriers) fault(place, "there are barriers 0 to 15");
  Barrier& barrier = executor->barriers[id];
  if (arrive(barrier, threads, false, place)) release(barrier);
}

int barrier_count(int predicate, Place place) {
  Barrier& barrier = executor->barriers[0];
  barrier.predicate += predicate != 0;
  barrier_sync(0, executor->count, true, place);
  const int result = barrier.predicate;
  barrier_sync(0, executor->count, true, place);
  barrier.predicate = 0;
  barrier_sync(0, executor->count, true, place);
  return result;
}
int barrier_or(int predicate, Place place) { return barrier_count(predicate, place) != 0; }

void complete_nothing(void**, unsigned) {}

void warp_collective(unsigned mask, WarpOperation complete, void* argument, const char* name, Place place) {
  Executor& e = *executor;
  Thread& self = *e.current;
  const int own = self.id % 32, index = self.id / 32;
  auto& calls = e.warps[static_cast<size_t>(index)];
  const int lanes = std::min(32, e.count - index * 32);
  if (lanes < 32) mask &= (1u << lanes) - 1;
  if (!(mask >> own & 1)) fault(place, "a lane calls a warp operation whose mask leaves it out");
  ++self.log.epoch;
  WarpCall* call = nullptr;
  for (WarpCall& each : calls) {
    if (each.mask == mask && !(each.arrived >> own & 1)) {
      call = &each;
      break;
    }
    if (each.mask & mask) fault(place, "lanes of one warp are in warp operations with different masks");
  }
  if (!call) {
    call = &calls.emplace_back(mask, complete);
  }
  if (call->complete != complete) fault(place, "lanes of one warp are in different warp operations: the warp has diverged");
  call->arrived |= 1u << own;
  call->arguments[own] = argument;
  if (call->arrived != mask) return e.wait(name, place);
  complete(call->arguments, mask);
  if (call != &calls.back()) *call = calls.back();
  calls.pop_back();
  e.lanes_released.clear();
  for (unsigned others = mask & ~(1u << own); others != 0; others &= others - 1)
    e.lanes_released.push_back(&e.threads[static_cast<size_t>(index * 32 + std::countr_zero(others))]);
  e.make_ready(e.lanes_released);
}

namespace {
struct Vote {
  bool predicate;
  unsigned ballot;
};
}  // namespace

unsigned vote(unsigned mask, bool predicate, Place place) {
  Vote argument{predicate, 0};
  warp_collective(mask, [](void** arguments, unsigned all) {
    unsigned ballot = 0;
    for (int i = 0; i < 32; ++i)
      if (all >> i & 1) ballot |= static_cast<unsigned>(static_cast<Vote*>(arguments[i])->predicate) << i;
    for (int i = 0; i < 32; ++i)
      if (all >> i & 1) static_cast<Vote*>(arguments[i])->ballot = ballot;
  }, &argument, "vote", place);
  return argument.ballot;
}

void* shared_variable_memory(const void* key, size_t bytes, size_t alignment) {
  Executor& e = *executor;
  SharedVariable* found = nullptr;
  for (SharedVariable& variable : e.shared)
    if (variable.key == key) found = &variable;
  if (!found) {
    void* memory = nullptr;
    PM_CHECK(posix_memalign(&memory, std::max<size_t>(alignment, 16), bytes) == 0);
    e.shared.push_back({key, {static_cast<std::byte*>(memory), std::free}, bytes, 0});
    found = &e.shared.back();
  }
  if (found->block != e.block_number) {
    found->block = e.block_number;
    std::memset(found->memory.get(), 0xFF, bytes);
    e.shared_bytes += bytes;
    const size_t statics = (e.shared_bytes - e.dynamic_bytes + 1023) / 1024 * 1024;  // dynamic memory is aligned to 1 KB behind them
    if (e.dynamic_bytes + statics > shared_bytes_max()) fault(Place::here(), "the block uses more shared memory than the device has");
  }
  return found->memory.get();
}

void* dynamic_shared_memory() { return executor->dynamic; }

void async_copy(void* to, const void* from, int bytes, int zero_from) {
  std::memset(to, 0xFF, static_cast<size_t>(bytes));
  executor->current->copies.push_back({to, from, bytes, zero_from});
}
void async_commit() { executor->current->groups.push_back(executor->current->copies.size()); }
void async_wait(int groups_left) {
  Thread& self = *executor->current;
  const auto left = static_cast<size_t>(groups_left);
  if (self.groups.size() <= left) return;
  const size_t done = self.groups[self.groups.size() - left - 1];
  for (size_t i = 0; i < done; ++i) {
    const Thread::Copy& copy = self.copies[i];
    std::memcpy(copy.to, copy.from, static_cast<size_t>(copy.zero_from));
    std::memset(static_cast<std::byte*>(copy.to) + copy.zero_from, 0, static_cast<size_t>(copy.bytes - copy.zero_from));
  }
  self.copies.erase(self.copies.begin(), self.copies.begin() + static_cast<ptrdiff_t>(done));
  self.groups.erase(self.groups.begin(), self.groups.end() - static_cast<ptrdiff_t>(left));
  for (size_t& end : self.groups) end -= done;
}

void count_access(Access kind, const void* address, int bytes, Place place) {
  executor->current->log.add(kind, address, bytes, place);
}
AccessLog& log_of(Thread* threads, int id) { return threads[id].log; }

const char* run_kernel(const KernelLaunch& launch) {
  Executor& e = executor_of_thread();
  PM_CHECK(e.launch == nullptr, "a kernel is launched from a kernel");
  e.launch = &launch;
  e.fault.clear();
  e.count = static_cast<int>(launch.block.x * launch.block.y * launch.block.z);
  blockDim = launch.block;
  gridDim = launch.grid;
  const auto count = static_cast<size_t>(e.count);
  while (e.stacks.size() < count) {
    void* stack = mmap(nullptr, kStackBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    PM_CHECK(stack != MAP_FAILED, "no memory for a fiber's stack");
    e.stacks.push_back(stack);
  }
  if (e.threads.size() < count) e.threads.resize(count);
  e.warps.resize((count + 31) / 32);
  e.live.resize(e.warps.size());
  if (launch.dynamic_shared_bytes != e.dynamic_bytes) {  // of exactly this size, so that what lies behind is watched
    std::free(e.dynamic);
    e.dynamic = nullptr;
    e.dynamic_bytes = launch.dynamic_shared_bytes;
    if (e.dynamic_bytes) PM_CHECK(posix_memalign(&e.dynamic, 1024, e.dynamic_bytes) == 0);
  }
  e.shuffled = order_seed != 0;
  if (e.shuffled) e.random = order_seed ^ e.block_number * 0x9E3779B97F4A7C15;

  const uint64_t blocks = uint64_t{launch.grid.x} * launch.grid.y * launch.grid.z;
  std::vector<uint32_t> order(blocks);
  for (uint64_t i = 0; i < blocks; ++i) order[i] = static_cast<uint32_t>(i);
  if (e.shuffled)
    for (uint64_t i = blocks; i-- > 1;) std::swap(order[i], order[e.draw(i + 1)]);
  for (uint64_t i = 0; i < blocks && e.fault.empty(); ++i) {
    const uint32_t block = order[i];
    e.run_block({block % launch.grid.x, block / launch.grid.x % launch.grid.y, block / (launch.grid.x * launch.grid.y)});
  }
  e.launch = nullptr;
#if PM_ASAN
  if (!e.fault.empty())  // threads were abandoned where they stood
    for (void* stack : e.stacks) __asan_unpoison_memory_region(stack, kStackBytes);
#endif
  return e.fault.empty() ? nullptr : e.fault.c_str();
}

}  // namespace emulated
