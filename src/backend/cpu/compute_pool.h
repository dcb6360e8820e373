// ComputePool: the threads that run the phases of an op. A phase is a number of tasks; whoever is free takes the next one,
// so a core that is busy with something else delays one task and not the phase.
//
// Threads: run() belongs to one thread at a time (the engine thread), which works too. Workers spin for 0.1 ms after a phase
//   and then sleep: an idle pool takes no CPU time. A phase allocates nothing.
// Determinism: which thread runs a task is left open; a task's result must not depend on it.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <thread>
#include <vector>

namespace pagemill {

class ComputePool {
 public:
  /// `threads` in all, the caller of run() included; 0 = what affinity and cgroup quota allow.
  explicit ComputePool(int threads = 0);
  ~ComputePool();
  ComputePool(const ComputePool&) = delete;
  ComputePool& operator=(const ComputePool&) = delete;

  int threads() const { return static_cast<int>(workers_.size()) + 1; }

  /// Calls body(task, thread) once for each task in [0, tasks) and returns when all have finished. thread is in
  /// [0, threads()): two calls with the same one never overlap, so it may index scratch memory. Not reentrant.
  template <class Body>
  void run(int64_t tasks, Body&& body) {
    using Plain = std::remove_reference_t<Body>;
    run_phase(tasks, Phase{[](void* context, int64_t task, int thread) { (*static_cast<Plain*>(context))(task, thread); },
                           const_cast<void*>(static_cast<const void*>(&body))});
  }

  /// As run(), for `items` handed out in ranges of about a quarter of a thread's share, at least `items_min` each:
  /// body(begin, end, thread).
  template <class Body>
  void run_ranges(int64_t items, int64_t items_min, Body&& body) {
    const int64_t range = std::max(items_min, (items + threads() * 4 - 1) / (threads() * 4));
    run((items + range - 1) / range, [&](int64_t task, int thread) {
      body(task * range, std::min(items, (task + 1) * range), thread);
    });
  }

 private:
  struct Phase {
    void (*call)(void* context, int64_t task, int thread) = nullptr;
    void* context = nullptr;
  };

  void run_phase(int64_t tasks, Phase phase);
  void run_wave(uint32_t tasks, int64_t offset, Phase phase);
  bool run_one_task(int thread);
  void work(int thread);

  // Tasks of the phase in the upper half, the next one to hand out in the lower: one fetch_add claims a task and says whether
  // it exists. A worker that comes late therefore joins whatever phase is current or finds nothing. phase_ and offset_
  // are written while no task is unfinished and read only by the holder of one.
  alignas(64) std::atomic<uint64_t> claims_{0};
  alignas(64) std::atomic<uint32_t> finished_{0};
  alignas(64) std::atomic<uint32_t> wakeups_{0};  // changes whenever there may be something to do
  std::atomic<bool> stop_{false};
  Phase phase_;
  int64_t offset_ = 0;
  std::vector<std::thread> workers_;
};

}  // namespace pagemill
