// ComputePool: the threads that run the phases of an op. A phase is a number of tasks; whoever is free takes the next one,
// so a core that is busy with something else delays one task and not the phase.
//
// Threads: run() belongs to one thread at a time (the engine thread), which works too. Workers spin for 0.1 ms after a phase
//   and then sleep: an idle pool takes no CPU time. A phase allocates nothing.
//   trace() is for measuring where the time of a step goes: two readings of the clock a task, nothing while it is off.
// Determinism: which thread runs a task is left open; a task's result must not depend on it.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <thread>
#include <vector>

namespace pagemill {

/// What a phase does; of a product also its weights' shape.
struct PhaseName {
  PhaseName(const char* what, int64_t columns = 0, int64_t outputs = 0) : op(what), in(columns), out(outputs) {}
  const char* op;  // a literal
  int64_t in, out;
};

/// One phase as it was traced.
struct PhaseTime {
  PhaseName name;
  int64_t tasks = 0;
  int64_t begin_ns = 0, end_ns = 0;  // steady clock
  int64_t busy_ns = 0;               // inside tasks, of all threads together
};

class ComputePool {
 public:
  /// `threads` in all, the caller of run() included; 0 = what affinity and cgroup quota allow.
  explicit ComputePool(int threads = 0);
  ~ComputePool();
  ComputePool(const ComputePool&) = delete;
  ComputePool& operator=(const ComputePool&) = delete;

  int threads() const { return static_cast<int>(workers_.size()) + 1; }

  /// Appends a record of every phase to `to` from now on; null: no longer. For the thread of run(); `to` must outlive the trace.
  void trace(std::vector<PhaseTime>* to) { trace_ = to; }

  /// Calls body(task, thread) once for each task in [0, tasks) and returns when all have finished. thread is in
  /// [0, threads()): two calls with the same one never overlap, so it may index scratch memory. Not reentrant.
  template <class Body>
  void run(const PhaseName& name, int64_t tasks, Body&& body) {
    using Plain = std::remove_reference_t<Body>;
    run_phase(name, tasks, Phase{[](void* context, int64_t task, int thread) { (*static_cast<Plain*>(context))(task, thread); },
                                 const_cast<void*>(static_cast<const void*>(&body))});
  }

  /// As run(), for `items` handed out in ranges of about a quarter of a thread's share, at least `items_min` each:
  /// body(begin, end, thread).
  template <class Body>
  void run_ranges(const PhaseName& name, int64_t items, int64_t items_min, Body&& body) {
    const int64_t range = std::max(items_min, (items + threads() * 4 - 1) / (threads() * 4));
    run(name, (items + range - 1) / range, [&](int64_t task, int thread) {
      body(task * range, std::min(items, (task + 1) * range), thread);
    });
  }

 private:
  struct Phase {
    void (*call)(void* context, int64_t task, int thread) = nullptr;
    void* context = nullptr;
    bool timed = false;
  };

  void run_phase(const PhaseName& name, int64_t tasks, Phase phase);
  void run_tasks(int64_t tasks, const Phase& phase);
  void run_wave(uint32_t tasks, int64_t offset, const Phase& phase);
  void run_task(const Phase& phase, int64_t task, int thread);
  bool run_one_task(int thread);
  void work(int thread);

  // Tasks of the phase in the upper half, the next one to hand out in the lower: one fetch_add claims a task and says whether
  // it exists. A worker that comes late therefore joins whatever phase is current or finds nothing. phase_ and offset_
  // are written while no task is unfinished and read only by the holder of one.
  alignas(64) std::atomic<uint64_t> claims_{0};
  alignas(64) std::atomic<uint32_t> finished_{0};
  alignas(64) std::atomic<uint32_t> wakeups_{0};  // changes whenever there may be something to do
  std::atomic<int64_t> busy_ns_{0};               // of the phase, while it is traced
  std::atomic<bool> stop_{false};
  Phase phase_;
  int64_t offset_ = 0;
  std::vector<PhaseTime>* trace_ = nullptr;
  std::vector<std::thread> workers_;
};

}  // namespace pagemill
