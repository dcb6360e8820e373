#include "terminal/answer.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/check.h"

namespace pagemill {
namespace {

double seconds_between(TimeNs from, TimeNs to) { return static_cast<double>(to - from) / kNsPerSecond; }

}  // namespace

/// An eventfd: wakes one waiting thread.
class WakeEvent {
 public:
  WakeEvent() : fd_(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) { PM_CHECK(fd_ != -1); }
  ~WakeEvent() { close(fd_); }
  WakeEvent(const WakeEvent&) = delete;
  WakeEvent& operator=(const WakeEvent&) = delete;

  int fd() const { return fd_; }
  void set() const {
    const uint64_t one = 1;
    [[maybe_unused]] const ssize_t written = write(fd_, &one, sizeof one);  // a full counter is readable already
  }
  void clear() const {
    uint64_t count = 0;
    [[maybe_unused]] const ssize_t seen = read(fd_, &count, sizeof count);
  }

 private:
  int fd_;
};

Answerer::Answerer(EngineHandle& engine, const TextModel& text, EngineModelInfo model)
    : engine_(engine), text_(text), model_(std::move(model)), wake_(std::make_shared<WakeEvent>()) {
  events_ = std::make_shared<EventQueue>([wake = wake_] { wake->set(); });
}

Result<AnswerStats> Answerer::answer(SessionRequest request, const std::function<void(std::string_view)>& on_text, int interrupt_fd) {
  PM_ASSIGN(PreparedRequest prepared, prepare(text_, model_, std::move(request)));
  const TimeNs start = SteadyClock::instance().now_ns();
  PM_ASSIGN(const std::unique_ptr<Session> session, Session::start(engine_, text_, std::move(prepared), events_, ++answers_));

  AnswerStats stats;
  TimeNs first = 0, last = 0;
  std::vector<EngineEvent> raw;
  std::vector<SessionEvent> events;
  while (!session->ended()) {
    pollfd fds[] = {{wake_->fd(), POLLIN, 0}, {interrupt_fd, POLLIN, 0}};
    poll(fds, 2, -1);
    wake_->clear();
    if ((fds[1].revents & POLLIN) != 0) {
      interrupt_fd = -1;
      session->cancel();
    }
    raw.clear();
    events.clear();
    events_->drain(raw);
    for (EngineEvent& event : raw)
      if (event.user_data == answers_) session->on_event(std::move(event), events);
    for (const SessionEvent& event : events) {
      if (const auto* text = std::get_if<TextEvent>(&event)) {
        if (!text->tokens.empty()) {
          last = SteadyClock::instance().now_ns();
          if (first == 0) first = last;
          stats.tokens += static_cast<int32_t>(text->tokens.size());
        }
        if (!text->text.empty()) on_text(text->text);
      } else if (const auto* choice = std::get_if<ChoiceFinished>(&event)) {
        stats.reason = choice->reason;
      } else if (const auto* end = std::get_if<SessionEnd>(&event)) {
        if (end->reason == FinishReason::error) return tl::unexpected(end->error);
        if (end->reason == FinishReason::cancelled || end->reason == FinishReason::deadline) stats.reason = end->reason;
        stats.usage = end->usage;
      }
    }
  }
  if (first != 0) {
    stats.first_token_s = seconds_between(start, first);
    stats.after_first_s = seconds_between(first, last);
  }
  return stats;
}

}  // namespace pagemill
