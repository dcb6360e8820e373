// EngineThread: the thread that loads a model and then steps it, and the EngineHandle that others hold of it.
//
// Invariants:
//   1. The thread owns everything that the loader returns. Others reach it by the inbox, by admission's counters and by
//      published statistics, all of them lock-free.
//   2. It waits for nobody: with nothing to do it sleeps on an eventfd, and every command wakes it.
//   3. What was accepted gets its End, also when the engine fails or is destroyed.
//   4. The state goes from loading to ready or failed, and from ready to failed, never back; draining and stalled are views of ready.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <thread>

#include "engine/admission.h"
#include "engine/core.h"
#include "engine/handle.h"
#include "engine/inbox.h"

namespace pagemill {

/// What a load gives. `owner` keeps alive whatever the runner refers to; it is destroyed last.
struct EngineParts {
  std::shared_ptr<void> owner;
  std::unique_ptr<StepRunner> runner;
  CoreConfig core;
  AdmissionConfig admission;
};

/// How a load says where it is. `phase` must be a literal.
class LoadReport {
 public:
  virtual ~LoadReport() = default;
  virtual void phase(const char* phase) = 0;
  /// Share done, 0 … 1; false: give up, nobody waits any more.
  virtual bool progress(double done) = 0;
};
using EngineLoader = std::function<Result<EngineParts>(LoadReport&)>;

class EngineThread final : public EngineHandle, private LoadReport {
 public:
  EngineThread(EngineLoader loader, TimeNs stall_ns, const Clock& clock);
  ~EngineThread() override;

  Result<RequestId> submit(EngineRequest request) override;
  void cancel(RequestId request) override;
  void end_choice(RequestId request, int32_t choice) override;
  std::vector<EngineModelInfo> models() const override;
  EngineStats stats() const override;
  const Clock& clock() const override { return clock_; }
  void drain(TimeNs deadline_ns) override;

 private:
  /// The engine's numbers as others see them, each by itself.
  struct Published {
    std::atomic<int32_t> running{0}, preempted{0};
    std::atomic<int32_t> blocks_total{0}, blocks_live{0}, blocks_cached{0};
    std::atomic<uint64_t> steps{0}, prompt_tokens{0}, output_tokens{0}, preemptions{0}, prefix_queries{0}, prefix_hits{0};
    std::atomic<uint64_t> finished_stop{0}, finished_length{0}, finished_cancelled{0}, finished_error{0};
    std::atomic<TimeNs> last_step_end_ns{0};
  };

  void run(EngineLoader loader);
  void step_until_stopped();
  void take_commands();
  void publish();
  void sleep(int timeout_ms);
  void wake();
  void phase(const char* phase) override { phase_.store(phase, std::memory_order_relaxed); }
  bool progress(double done) override;
  EngineState state() const;

  const Clock& clock_;
  const TimeNs stall_ns_;
  const int wake_fd_;
  Inbox inbox_;
  EngineParts parts_;                            // the thread's, except `admission` below
  std::unique_ptr<Admission> admission_;         // set before state_ leaves `loading`
  std::unique_ptr<EngineCore> core_;
  Error failure_;                                // set before state_ becomes `failed`

  std::atomic<EngineState> state_{EngineState::loading};
  std::atomic<bool> draining_{false}, stopping_{false};
  std::atomic<bool> busy_{false};                // has work, and so should step
  std::atomic<TimeNs> progress_ns_{0};           // the last sign of life while busy
  std::atomic<const char*> phase_{"starting"};
  std::atomic<double> load_progress_{0};
  Published published_;
  std::thread thread_;                           // last: it uses all of the above
};

}  // namespace pagemill
