#include "engine/engine_thread.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "base/log.h"

namespace pagemill {

namespace {

constexpr int kReaderPollMsMax = 50;  // how long events may wait after a reader has made room while nothing else happens

template <class T>
T read(const std::atomic<T>& value) { return value.load(std::memory_order_relaxed); }

}  // namespace

EngineThread::EngineThread(EngineLoader loader, TimeNs stall_ns, const Clock& clock)
    : clock_(clock), stall_ns_(stall_ns), wake_fd_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  PM_CHECK(wake_fd_ >= 0, "no eventfd");
  thread_ = std::thread([this, loader = std::move(loader)]() mutable { run(std::move(loader)); });
}

EngineThread::~EngineThread() {
  stopping_.store(true, std::memory_order_release);
  wake();
  thread_.join();
  close(wake_fd_);
}

// --- Any thread -------------------------------------------------------------------------------------------------------

Result<RequestId> EngineThread::submit(EngineRequest request) {
  switch (state()) {
    case EngineState::ready: break;
    case EngineState::loading: return fail(ErrorCode::unavailable, "The model is still loading: try again later.");
    case EngineState::draining: return fail(ErrorCode::unavailable, "The server is shutting down and takes no new requests.");
    case EngineState::stalled: return fail(ErrorCode::unavailable, "The engine does not respond: try again later.");
    case EngineState::failed: return fail(ErrorCode::unavailable, "The engine has failed: " + failure_.message);
  }
  PM_ASSIGN(const RequestId id, admission_->accept(request));
  inbox_.push(SubmitCommand{id, std::move(request), clock_.now_ns()});
  wake();
  return id;
}

void EngineThread::cancel(RequestId request) {
  inbox_.push(CancelCommand{request});
  wake();
}

void EngineThread::end_choice(RequestId request, int32_t choice) {
  inbox_.push(EndChoiceCommand{request, choice});
  wake();
}

void EngineThread::drain(TimeNs deadline_ns) {
  draining_.store(true, std::memory_order_release);
  inbox_.push(DrainCommand{std::max<TimeNs>(deadline_ns, 1)});
  wake();
}

void EngineThread::wake() {
  const uint64_t one = 1;
  // A full counter (EAGAIN) has woken the thread already.
  [[maybe_unused]] const ssize_t written = write(wake_fd_, &one, sizeof one);
}

EngineState EngineThread::state() const {
  const EngineState state = state_.load(std::memory_order_acquire);
  if (state != EngineState::ready) return state;
  if (busy_.load(std::memory_order_acquire) && clock_.now_ns() - read(progress_ns_) > stall_ns_) return EngineState::stalled;
  return draining_.load(std::memory_order_acquire) ? EngineState::draining : EngineState::ready;
}

std::vector<EngineModelInfo> EngineThread::models() const {
  if (state_.load(std::memory_order_acquire) == EngineState::loading || !admission_) return {};
  return {admission_->config().model};
}

EngineStats EngineThread::stats() const {
  EngineStats s;
  s.state = state();
  s.load_phase = read(phase_);
  s.load_progress = read(load_progress_);
  if (s.state == EngineState::failed) s.failure = failure_;
  if (state_.load(std::memory_order_acquire) == EngineState::loading || !admission_) return s;
  const Published& p = published_;
  s.running = read(p.running);
  s.waiting = admission_->queued_requests() + read(p.preempted);
  s.waiting_prompt_tokens = admission_->queued_tokens();
  s.rejected = admission_->rejected();
  s.kv_blocks_total = read(p.blocks_total);
  s.kv_blocks_live = read(p.blocks_live);
  s.kv_blocks_cached = read(p.blocks_cached);
  s.kv_usage = s.kv_blocks_total > 0 ? static_cast<double>(s.kv_blocks_live) / s.kv_blocks_total : 0;
  s.steps = read(p.steps);
  s.prompt_tokens = read(p.prompt_tokens);
  s.output_tokens = read(p.output_tokens);
  s.preemptions = read(p.preemptions);
  s.prefix_queries_tokens = read(p.prefix_queries);
  s.prefix_hits_tokens = read(p.prefix_hits);
  s.finished_stop = read(p.finished_stop);
  s.finished_length = read(p.finished_length);
  s.finished_cancelled = read(p.finished_cancelled);
  s.finished_error = read(p.finished_error);
  s.last_step_end_ns = read(p.last_step_end_ns);
  return s;
}

// --- The engine thread ------------------------------------------------------------------------------------------------

bool EngineThread::progress(double done) {
  load_progress_.store(done, std::memory_order_relaxed);
  return !stopping_.load(std::memory_order_acquire);
}

void EngineThread::run(EngineLoader loader) {
  Result<EngineParts> parts = loader(*this);
  if (!parts) {
    failure_ = std::move(parts).error();
    state_.store(EngineState::failed, std::memory_order_release);
    return;
  }
  parts_ = std::move(*parts);
  admission_ = std::make_unique<Admission>(std::move(parts_.admission));
  core_ = std::make_unique<EngineCore>(parts_.core, *admission_, *parts_.runner, clock_);
  publish();
  progress(1);
  phase("ready");
  progress_ns_.store(clock_.now_ns(), std::memory_order_relaxed);
  busy_.store(true, std::memory_order_release);
  state_.store(EngineState::ready, std::memory_order_release);
  step_until_stopped();
  take_commands();  // what was accepted before stopping gets its End too
  core_->shut_down();
  core_.reset();
  parts_.runner.reset();
  parts_.owner.reset();
}

void EngineThread::step_until_stopped() {
  int poll_ms = 1;
  uint64_t steps = 0;
  while (!stopping_.load(std::memory_order_acquire)) {
    take_commands();
    const bool more = core_->step();
    const TimeNs now = clock_.now_ns();
    progress_ns_.store(now, std::memory_order_relaxed);
    if (std::exchange(steps, core_->counters().steps) != core_->counters().steps) published_.last_step_end_ns.store(now, std::memory_order_relaxed);
    publish();
    if (core_->failed() && read(state_) == EngineState::ready) {
      failure_ = core_->failure();
      log_error("the engine has failed: {}", failure_.message);
      state_.store(EngineState::failed, std::memory_order_release);
    }
    if (more) {
      poll_ms = 1;
      continue;
    }
    busy_.store(false, std::memory_order_release);
    sleep(core_->undelivered() ? std::exchange(poll_ms, std::min(poll_ms * 2, kReaderPollMsMax)) : -1);
    progress_ns_.store(clock_.now_ns(), std::memory_order_relaxed);
    busy_.store(true, std::memory_order_release);
  }
}

void EngineThread::sleep(int timeout_ms) {
  pollfd waiting{.fd = wake_fd_, .events = POLLIN, .revents = 0};
  poll(&waiting, 1, timeout_ms);
  uint64_t count = 0;
  [[maybe_unused]] const ssize_t got = ::read(wake_fd_, &count, sizeof count);
}

void EngineThread::take_commands() {
  inbox_.take([this](EngineCommand& command) {
    if (auto* submit = std::get_if<SubmitCommand>(&command)) {
      core_->submit(submit->id, std::move(submit->request), submit->arrival_ns);
    } else if (const auto* cancel = std::get_if<CancelCommand>(&command)) {
      core_->cancel(cancel->id);
    } else if (const auto* end = std::get_if<EndChoiceCommand>(&command)) {
      core_->end_choice(end->id, end->choice);
    } else if (const auto* drain = std::get_if<DrainCommand>(&command)) {
      core_->drain(drain->deadline_ns);
    }
  });
}

void EngineThread::publish() {
  const auto put = [](auto& to, auto value) { to.store(value, std::memory_order_relaxed); };
  Published& p = published_;
  const CoreCounters& c = core_->counters();
  const Scheduler& scheduler = core_->scheduler();
  const KvCounts blocks = core_->blocks().counts(0);
  put(p.running, scheduler.running());
  put(p.preempted, scheduler.preempted());
  put(p.blocks_total, blocks.total);
  put(p.blocks_live, blocks.live);
  put(p.blocks_cached, blocks.cached);
  put(p.steps, c.steps);
  put(p.prompt_tokens, c.prompt_tokens);
  put(p.output_tokens, c.output_tokens);
  put(p.preemptions, scheduler.preemptions());
  put(p.prefix_queries, scheduler.prefix_queries_tokens());
  put(p.prefix_hits, scheduler.prefix_hits_tokens());
  put(p.finished_stop, c.finished_stop);
  put(p.finished_length, c.finished_length);
  put(p.finished_cancelled, c.finished_cancelled);
  put(p.finished_error, c.finished_error);
}

}  // namespace pagemill
