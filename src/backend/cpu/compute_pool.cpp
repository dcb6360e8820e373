#include "backend/cpu/compute_pool.h"

#include <algorithm>
#include <chrono>

#include "base/check.h"
#include "base/clock.h"
#include "base/machine.h"

namespace pagemill {
namespace {

// Who waits for the next phase of a step, or for the last task of this one, had better not sleep: with 16 threads and 192 phases a token waking them
// took 2 to 9 % of the time (docs/kernels.md, AMX).
constexpr std::chrono::microseconds kSpinTime{100};
constexpr uint32_t kWaveTasks = 1u << 30;

void pause_cpu() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

/// Waits for a while without giving up the CPU; says whether done() came true.
template <class Done>
bool spin_until(Done&& done) {
  const auto start = std::chrono::steady_clock::now();
  for (int spin = 1; !done(); ++spin) {
    pause_cpu();
    if (spin % 64 == 0 && std::chrono::steady_clock::now() - start > kSpinTime) return false;
  }
  return true;
}

TimeNs now_ns() { return SteadyClock::instance().now_ns(); }

bool claimable(uint64_t claims) { return static_cast<uint32_t>(claims) < claims >> 32; }

}  // namespace

ComputePool::ComputePool(int threads) {
  const int count = threads > 0 ? threads : usable_threads();
  workers_.reserve(static_cast<size_t>(count - 1));
  for (int thread = 1; thread < count; ++thread) workers_.emplace_back([this, thread] { work(thread); });
}

ComputePool::~ComputePool() {
  stop_.store(true);
  wakeups_.fetch_add(1);
  wakeups_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

void ComputePool::run_phase(const PhaseName& name, int64_t tasks, Phase phase) {
  PM_CHECK(tasks >= 0);
  if (trace_ == nullptr) return run_tasks(tasks, phase);
  phase.timed = true;
  busy_ns_.store(0, std::memory_order_relaxed);
  const int64_t begin = now_ns();
  run_tasks(tasks, phase);
  trace_->push_back({name, tasks, begin, now_ns(), busy_ns_.load(std::memory_order_relaxed)});
}

void ComputePool::run_tasks(int64_t tasks, const Phase& phase) {
  if (workers_.empty() || tasks == 1) {
    for (int64_t task = 0; task < tasks; ++task) run_task(phase, task, 0);
    return;
  }
  for (int64_t offset = 0; offset < tasks; offset += kWaveTasks)
    run_wave(static_cast<uint32_t>(std::min<int64_t>(tasks - offset, kWaveTasks)), offset, phase);
}

void ComputePool::run_task(const Phase& phase, int64_t task, int thread) {
  if (!phase.timed) return phase.call(phase.context, task, thread);
  const int64_t begin = now_ns();
  phase.call(phase.context, task, thread);
  busy_ns_.fetch_add(now_ns() - begin, std::memory_order_relaxed);
}

void ComputePool::run_wave(uint32_t tasks, int64_t offset, const Phase& phase) {
  PM_CHECK(!claimable(claims_.load(std::memory_order_relaxed)), "ComputePool::run is not reentrant");
  phase_ = phase;
  offset_ = offset;
  finished_.store(0, std::memory_order_relaxed);
  claims_.store(uint64_t{tasks} << 32, std::memory_order_release);
  wakeups_.fetch_add(1);
  wakeups_.notify_all();
  while (run_one_task(0)) {
  }
  spin_until([&] { return finished_.load(std::memory_order_acquire) == tasks; });
  for (uint32_t seen; (seen = finished_.load(std::memory_order_acquire)) != tasks;) finished_.wait(seen);
}

bool ComputePool::run_one_task(int thread) {
  if (!claimable(claims_.load(std::memory_order_relaxed))) return false;
  const uint64_t claim = claims_.fetch_add(1, std::memory_order_acq_rel);
  if (!claimable(claim)) return false;
  run_task(phase_, offset_ + static_cast<uint32_t>(claim), thread);
  // Once the last task is counted the caller may already be setting up the next phase: phase_ and offset_ are not read after.
  const auto tasks = static_cast<uint32_t>(claim >> 32);
  if (finished_.fetch_add(1, std::memory_order_acq_rel) + 1 == tasks && thread != 0) finished_.notify_one();
  return true;
}

void ComputePool::work(int thread) {
  while (!stop_.load(std::memory_order_relaxed)) {
    const uint32_t seen = wakeups_.load();
    if (run_one_task(thread)) continue;
    const bool changed = spin_until([&] { return wakeups_.load(std::memory_order_relaxed) != seen; });
    if (!changed && !stop_.load()) wakeups_.wait(seen);
  }
}

}  // namespace pagemill
